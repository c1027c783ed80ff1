"""Code that several test files share. Fixtures are in `tests/conftest.py`.

factories.py             accounts, dogs, uploaded, answered and reviewed photos, made by the product's own code
pictures.py              pictures drawn by code, and their JPEG bytes
hostile_files.py         files that are damaged or made to do harm
commands.py              run a management command and return its output
fakes.py                 a classifier without a network, a server that receives webhooks
ml.py                    datasets, checkpoints and small networks for `tests/ml`
serving.py               start Flair as `make run` does
stack.py                 start Flair on services that a test may kill
own_services.py          disks, databases and brokers that a test may fill and kill
s3_server.py             an S3-compatible store in a thread
emptying.py              empty the database, append-only tables included
imports.py               the import graph of our packages
parallel.py              how two processes share a run of all tests
settings_short_leases.py settings of a started Flair: leases of seconds
settings_hour_ahead.py   settings of a worker whose clock is an hour ahead
settings_crashing.py     settings of a worker whose decoder crashes
"""
