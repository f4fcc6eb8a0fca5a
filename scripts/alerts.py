#!/usr/bin/env python3
"""Checks alert rules, Prometheus' settings and the dashboard's queries with promtool.

promtool comes with Debian's package prometheus, which is fetched into .cache and unpacked, not installed.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "promtool"


def promtool() -> Path:
    tool = CACHE / "usr" / "bin" / "promtool"
    if not tool.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "prometheus"], cwd=CACHE, check=True)
        package = max(CACHE.glob("prometheus_*.deb"))
        subprocess.run(["dpkg-deb", "--extract", package, CACHE], check=True)
    return tool


def queries(value) -> list[str]:
    """Every query of a dashboard."""
    if isinstance(value, list):
        return [query for item in value for query in queries(item)]
    if isinstance(value, dict):
        own = [value["expr"]] if "expr" in value else []
        return own + [query for item in value.values() for query in queries(item)]
    return []


def as_rules(found: list[str]) -> str:
    """Queries as recording rules, with the dashboard's variables filled in: what promtool can read."""
    filled = [re.sub(r"\$\w+", "x", query.replace("$__rate_interval", "5m")) for query in found]
    rules = [{"record": f"dashboard:query:{i}", "expr": query} for i, query in enumerate(filled)]
    return json.dumps({"groups": [{"name": "dashboard", "rules": rules}]})


def main() -> int:
    tool, docker = promtool(), ROOT / "docker"
    dashboard = json.loads((docker / "grafana" / "xprompt.json").read_text())
    rules = CACHE / "dashboard.yml"
    rules.write_text(as_rules(queries(dashboard["panels"])))
    checks = [
        ["check", "rules", docker / "prometheus" / "alerts.yml"],
        ["check", "config", "--syntax-only", docker / "prometheus" / "prometheus.yml"],
        ["check", "rules", rules],
    ]
    return max(subprocess.run([tool, *check]).returncode for check in checks)


if __name__ == "__main__":
    sys.exit(main())
