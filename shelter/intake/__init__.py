"""From bytes to rows: uploads, archives and disks."""
