"""French times as people write them: « 28 novembre 2026 à 16 h 12 ». The rest is Django's."""

TIME_FORMAT = "G\u00a0\\h\u00a0i"
DATETIME_FORMAT = f"j F Y à {TIME_FORMAT}"
SHORT_DATETIME_FORMAT = f"d/m/Y à {TIME_FORMAT}"
