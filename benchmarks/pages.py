"""How long the list pages take at size, from request to rendered page, and how many queries each needs.

    export FLAIR_DATA_DIR=/tmp/flair-big
    python manage.py prepare && python manage.py seed_demo --photos 100000
    python -m benchmarks.pages --rounds 40

One request after the other in this process; the browser, the network and thumbnails are not in it. The time of the
processor, with that of PostgreSQL's process where it runs on this machine, hardly depends on what else the machine
does; the time on the clock does.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shelter.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from shelter.models import Animal, Photo  # noqa: E402

MOST_QUERIES, MOST_MILLISECONDS = 12, 300


def addresses() -> dict[str, list[str]]:
    """name of a page -> addresses of it, one of which each round takes."""
    rng = random.Random(0)
    photos = list(Photo.objects.order_by("?").values_list("pk", "sureness")[:40])
    animals = list(Animal.objects.order_by("?").values_list("pk", "name_folded")[:40])
    breeds = list(Photo.objects.exclude(breed=None).values_list("breed__slug", flat=True).distinct()[:40])
    words = ["epagneul", "rex", "éclair", "terriers", "berger allemand", "bella beagle", "licorne", "a"]
    return {
        "upload": ["/"],
        "photos": ["/photos/"],
        "photos, any page": [f"/photos/?after=[{pk},{pk}]" for pk, _ in photos],
        "photos, surest, any page": [f"/photos/?sort=surest&after=[{sure},{pk}]" for pk, sure in photos],
        "photos, a breed": [f"/photos/?breed={slug}" for slug in breeds],
        "photos, a breed, least sure": [f"/photos/?breed={slug}&sort=unsurest" for slug in breeds],
        "photos, words": [f"/photos/?q={word}" for word in words],
        "photos, words, surest": [f"/photos/?q={word}&sort=surest" for word in words],
        "photos, verified": ["/photos/?source=human", "/photos/?source=model", "/photos/?source=human&sort=surest"],
        "photos, dates": [f"/photos/?since=202{year}-0{rng.randint(1, 9)}-01" for year in (5, 6)]
        + ["/photos/?until=2025-06-01", "/photos/?since=2026-01-01&until=2026-01-31"],
        "photos, probability, no record": [f"/photos/?filed=no&probability={band}" for band in (90, 70, 50, 0)],
        "dogs": ["/animals/", "/animals/?status=adopted", "/animals/?sort=newest"],
        "dogs, any page": [f'/animals/?after=["{name}",{pk}]' for pk, name in animals],
        "dogs, a name": ["/animals/?q=elodie", "/animals/?q=re", "/animals/?q=licorne"],
        "a dog": [f"/animals/{pk}/" for pk, _ in animals],
        "a photo": [f"/photos/{pk}/" for pk, _ in photos],
        "suggestions": ["/animals/suggestions/"],
        "breeds": ["/breeds/"],
    }


def processor_clock() -> Callable[[], float]:
    """Seconds for which this process, and the one that serves its connection to PostgreSQL, have had a processor."""
    if connection.vendor != "postgresql":
        return time.process_time
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    served = Path(f"/proc/{pid}/schedstat")  # its first figure is in nanoseconds
    if not served.exists():
        print("PostgreSQL runs elsewhere: its processor is not in the figures.")
        return time.process_time
    return lambda: time.process_time() + int(served.read_text().split()[0]) / 1e9


def measure(rounds: int, say: Callable[[str], None] = print) -> dict[str, dict[str, float]]:
    """{name of a page: {queries, median, p95, processor_p95}}, times in milliseconds."""
    client = Client(SERVER_NAME="localhost", HTTP_ACCEPT_LANGUAGE="fr")
    client.force_login(get_user_model().objects.filter(is_superuser=True).first())
    figures, processor_time = {}, processor_clock()
    for name, choices in addresses().items():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(choices[0]).status_code == 200, choices[0]
        count = len(queries)  # before the next request forgets them
        clock, processor = [], []
        for number in range(rounds):
            start, worked = time.perf_counter(), processor_time()
            client.get(choices[number % len(choices)])
            clock.append((time.perf_counter() - start) * 1000)
            processor.append((processor_time() - worked) * 1000)
        p95, work = (statistics.quantiles(times, n=20)[-1] for times in (clock, processor))
        row = {"queries": count, "median": statistics.median(clock), "p95": p95, "processor_p95": work}
        say(f"{name:32} {count:7} {row['median']:7.0f} {p95:7.0f} {work:14.0f}")
        figures[name] = row
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    print(f"{Photo.objects.count():,} photos, {Animal.objects.count():,} dogs, {connection.vendor}, {rounds} rounds\n")
    print(f"{'page':32} queries  median  95th %  processor 95th %   (milliseconds)")
    figures = measure(rounds, lambda line: print(line, flush=True))
    missed = [name for name, row in figures.items() if row["queries"] > MOST_QUERIES or row["p95"] > MOST_MILLISECONDS]
    print(f"\nOver {MOST_QUERIES} queries or {MOST_MILLISECONDS} ms: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
