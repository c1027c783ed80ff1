"""`make cluster-test`: compose.yaml on network namespaces, outside the gate. Needs root and Debian's packages.

check_cluster.py  the tests
composition.py    the services of compose.yaml, without containers
machines.py       a machine: a network namespace with a wire that can be cut
swift.py          the S3-compatible store
"""
