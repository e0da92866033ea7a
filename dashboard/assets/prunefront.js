// What only the browser knows, and what must not wait for the server.
(function () {
  "use strict";
  const root = document.documentElement;
  const wanted = () => {
    try { return localStorage.getItem("prunefront-theme"); } catch { return null; }
  };
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  root.dataset.theme = wanted() || (prefersDark.matches ? "dark" : "light");

  let webgl = null;
  const probe = () => {
    try {
      const context = document.createElement("canvas").getContext("webgl");
      if (!context) return false;
      // Browsers allow few contexts at a time: give this one back.
      const loses = context.getExtension("WEBGL_lose_context");
      if (loses) loses.loseContext();
      return true;
    } catch { return false; }
  };

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    prunefront: {
      hasWebGL: () => (webgl === null ? (webgl = probe()) : webgl),
      theme: (clicks) => {
        if (clicks) {
          root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
          try { localStorage.setItem("prunefront-theme", root.dataset.theme); } catch { /* it holds for this page */ }
        }
        return root.dataset.theme;
      },
    },
  });

  // Say when the server or its database is away, and when it is back.
  const banner = document.createElement("div");
  banner.className = "alarm away";
  banner.setAttribute("role", "alert");
  banner.hidden = true;
  const ask = async () => {
    try {
      const answer = await fetch("/api/health", { cache: "no-store" });
      if (answer.ok) { banner.hidden = true; return; }
      const said = await answer.json();
      banner.textContent = answer.status === 401
        ? "This page is no longer let in: open the address that prunefront serve printed."
        : `The database is away: ${said.error}`;
    } catch {
      banner.textContent = "The dashboard's server is away. Searches go on in their runner; this page asks again.";
    }
    banner.hidden = false;
  };
  addEventListener("DOMContentLoaded", () => {
    document.body.prepend(banner);
    setInterval(ask, 5000);
  });
})();
