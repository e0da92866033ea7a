"""One file a page: what it shows (``layout``), and what it does (``register``)."""
