"""How much of a search's wall time is the driver's own: asking, recording, telling.

    python -m benchmarks.driver_share --trials 200 --images 512

Prints seconds by what the driver did, and its share of the whole. Ray workers, the bundled model and images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from search import Execution, Study


def main() -> None:
    """Run one search for each sampler asked for, and print where its driver's time went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--samplers", nargs="+", default=["tpe"])
    options = parser.parse_args()
    for sampler in options.samplers:
        with tempfile.TemporaryDirectory() as folder:
            study = Study.create(
                study="share",
                model="shapes_vit_small",
                data={"data": "shapes", "n_search": options.images, "n_confirm": 0},
                budget="65%",
                sampler=sampler,
                n_trials=options.trials,
                db=f"sqlite:///{folder}/share.db",
            )
            started = time.perf_counter()
            progress = study.run(execution=Execution(n_workers=options.workers))
            wall = time.perf_counter() - started
            study.close()
        seconds = {what: round(spent, 3) for what, spent in sorted(progress.seconds.items())}
        own = sum(spent for what, spent in progress.seconds.items() if what != "waiting")
        print(
            json.dumps(
                {"sampler": sampler, "wall_s": round(wall, 2), "driver_share_of_wall": round(own / wall, 4), **seconds}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
