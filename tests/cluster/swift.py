"""OpenStack Swift with its S3 API on one machine: the S3-compatible store that Debian has as packages."""

from pathlib import Path

SWIFT = """
[swift-hash]
swift_hash_path_prefix = flair
swift_hash_path_suffix = flair
[storage-policy:0]
name = one
default = yes
"""
PROXY = """
[DEFAULT]
bind_ip = 0.0.0.0
bind_port = 8333
user = root
workers = 1
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:11211
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""
STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
workers = 1
devices = {devices}
mount_check = false
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PORTS = {"object": 6200, "container": 6201, "account": 6202}


def start_swift(machine, access_key: str, secret: str) -> None:
    """Start it on port 8333 of `machine`. `access_key` is `account:user`; its name resolution covers /etc/swift."""
    account, user = access_key.split(":")
    etc = Path("/etc/netns") / machine.namespace / "swift"
    etc.mkdir()
    devices = machine.folder / "devices"
    (devices / "disk").mkdir(parents=True)
    (etc / "swift.conf").write_text(SWIFT)
    (etc / "proxy-server.conf").write_text(PROXY.format(account=account, user=user, secret=secret))
    for kind, port in PORTS.items():
        (etc / f"{kind}-server.conf").write_text(STORAGE.format(kind=kind, port=port, devices=devices))
        ring = f"/etc/swift/{kind}.builder"
        machine.run("swift-ring-builder", ring, "create", 6, 1, 1)
        machine.run("swift-ring-builder", ring, "add", f"r1z1-127.0.0.1:{port}/disk", 1)
        machine.run("swift-ring-builder", ring, "rebalance")
    machine.start("memcached", "-u", "nobody", "-l", "127.0.0.1")
    for kind in ("account", "container", "object", "proxy"):
        machine.start(f"swift-{kind}-server", f"/etc/swift/{kind}-server.conf")
