# Two commands do everything on a machine that has Python 3.11 or newer, Rust and make:
#   make demo    sets everything up and runs a handler cold, warm, over its memory and over its time
#   make test    sets everything up and passes the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml
# What of the Python package is in the library for C and Rust programs.
INSIDE := python/coldframe/_probe.py $(shell find python/coldframe/_runtime -name '*.py' 2>/dev/null)
CAPI := target/capi/built

.PHONY: demo test test-rust test-python test-user test-legacy test-vm test-vm-short test-runtimes check docs \
	check-arm64 test-arm64 capi install-capi wheels test-wheels test-wheel fuzz bench soak peers clean

demo: $(VENV)/built
	$(BIN)/python examples/demo.py

test: test-rust test-python

test-rust:
	cargo test --workspace --exclude coldframe-py --locked --quiet

# What looks at the machine as a whole, or measures time, is run by itself; the rest, which mostly waits, two by two.
ALONE := crash escape kernel
test-python: $(VENV)/built $(CAPI)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ALONE:%=--ignore=tests/%)
	$(BIN)/python -m pytest $(ALONE:%=tests/%)

# The C interface, laid out as it is installed: include/coldframe.h, lib/libcoldframe.so and lib/pkgconfig/coldframe.pc.
# `make install-capi PREFIX=/usr/local` puts it there.
capi: $(CAPI)

$(CAPI): $(RUST) $(INSIDE) $(shell find rust/capi -type f)
	cargo build --release --package coldframe-capi --locked --quiet
	$(MAKE) --no-print-directory install-capi PREFIX=$(abspath $(@D))
	touch $@

install-capi: PREFIX ?= /usr/local
install-capi: VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
install-capi:
	install -D -m 755 target/release/libcoldframe.so $(DESTDIR)$(PREFIX)/lib/libcoldframe.so.1
	ln -sf libcoldframe.so.1 $(DESTDIR)$(PREFIX)/lib/libcoldframe.so
	install -D -m 644 rust/capi/include/coldframe.h $(DESTDIR)$(PREFIX)/include/coldframe.h
	install -d $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' rust/capi/coldframe.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/coldframe.pc

# The same on other kinds of host. By root: as an ordinary user with delegated cgroups, and as if there were no version 2.
test-user: $(VENV)/built
	$(BIN)/python tests/ordinary.py -q tests/escape

test-legacy: TESTS ?= tests/escape tests/kernel/test_cgroups.py tests/kernel/test_life.py
test-legacy: $(VENV)/built
	COLDFRAME_PRETEND=-cgroup2 $(BIN)/python -m pytest -q $(TESTS)

# In an emulated machine with version 2 alone, as root and as an ordinary user: a quarter of an hour, or five minutes. What it
# runs is compiled before: there that takes a minute.
test-vm: HOW_MUCH = all
test-vm: WITHIN_S = 900
test-vm-short: HOW_MUCH = short
test-vm-short: WITHIN_S = 600
test-vm test-vm-short: $(VENV)/vm
	COLDFRAME_OWN_MACHINE=1 $(BIN)/python -m pytest -q --collect-only tests/vm tests/escape >/dev/null
	$(BIN)/python tests/vm/machine.py --within $(WITHIN_S) bash tests/vm/tests.sh $(abspath $(BIN))/python $(HOW_MUCH)

# AWS's own runtimes with the functions of examples/runtimes, beside a stand-in for the Runtime API and in coldframe.
# RUNTIMES="bash awslambdaric go node" takes one or two minutes, most of it the compiling of Node's, which is kept.
RUNTIMES ?= bash awslambdaric go node rust java extensions-bash extensions-rust
test-runtimes: $(VENV)/built $(RUNTIMES:%=target/runtimes/.%)
	COLDFRAME_RUNTIMES="$(RUNTIMES)" $(BIN)/python -m pytest -q tests/runtimes

.SECONDEXPANSION:
target/runtimes/.%: $$(shell find examples/runtimes/$$(subst -,/,$$*) -type f)
	rm -rf target/runtimes/$*
	examples/runtimes/$(subst -,/,$*)/build.sh target/runtimes/$*
	touch $@

# What a change has to be before it is committed.
check: $(VENV)/built
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked --quiet -p coldframe -p coldframe-core -p coldframe-sys
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PYTHONPATH=python $(BIN)/pyright --pythonpath $(BIN)/python --verifytypes coldframe --ignoreexternal >target/types.log || \
		{ cat target/types.log; exit 1; }
	$(BIN)/python -m mypy.stubtest coldframe._core --ignore-disjoint-bases

# What is released: the source distribution and, built from that, so that it is known to be whole, a wheel for each of MACHINES.
# Zig is the linker, for either machine on either, against a glibc old enough for every distribution.
MACHINES ?= x86_64 aarch64
wheels: target/wheels/.built
target/wheels/.built: $(VENV)/installed $(RUST) $(shell find python -name '*.py' -o -name '*.pyi') README.md LICENSE
	$(BIN)/python -m pip install --quiet --group wheels
	if command -v rustup; then rustup target add $(MACHINES:%=%-unknown-linux-gnu); fi
	rm -rf target/wheels target/source
	mkdir -p target/source
	$(BIN)/maturin sdist --out target/wheels
	tar xzf target/wheels/*.tar.gz -C target/source --strip-components 1
	for machine in $(MACHINES); do \
		(cd target/source && PATH=$(abspath $(BIN)):$$PATH CARGO_TARGET_DIR=$(abspath target) maturin build --release --quiet \
			--zig --compatibility manylinux_2_17 --target $$machine-unknown-linux-gnu --out $(abspath target/wheels)) || exit 1; \
	done
	touch $@

# They are opened, and the one for this machine is tried on each CPython that is here; or the build of this tree on one.
test-wheels: $(VENV)/built target/wheels/.built
	COLDFRAME_WHEELS=target/wheels $(BIN)/python -m pytest -q tests/wheels

test-wheel: $(VENV)/built
	rm -rf target/wheel
	PATH=$(abspath $(BIN)):$$PATH maturin build --release --locked --quiet --out target/wheel
	COLDFRAME_WHEELS=target/wheel COLDFRAME_WHEELS_ON=newest $(BIN)/python -m pytest -q tests/wheels/test_installed.py

# The documents as a site in target/docs, which anything that serves files can show. What is doubtful is an error.
docs: $(VENV)/docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c docs -d target/doctrees . target/docs
	@echo "target/docs/index.html"

# What `make test` tries for a moment, for FUZZ_S seconds each and with a chance of its own: whatever reads bytes of others
# is fed with mutated ones, and options, events and archives are whatever hypothesis thinks of.
FUZZ_S ?= 60
fuzz: export COLDFRAME_FUZZ_S = $(FUZZ_S)
fuzz: export COLDFRAME_FUZZ_SEED ?= $(shell date +%s)
fuzz: $(VENV)/built
	@echo "COLDFRAME_FUZZ_SEED=$(COLDFRAME_FUZZ_SEED)"
	cargo test --workspace --exclude coldframe-py --locked --quiet --lib fuzz_ -- --nocapture
	$(BIN)/python -m pytest tests/unit --timeout 0 --hypothesis-seed $(COLDFRAME_FUZZ_SEED) -k test_properties

# For the other architecture: the whole workspace compiles, and the static init runs where there is an emulator.
# Debian has what it takes in gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user.
ARM64 := aarch64-unknown-linux-gnu
ARM64_CARGO = CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" cargo
check-arm64:
	$(ARM64_CARGO) check --workspace --all-targets --target $(ARM64) --locked --quiet
	if command -v qemu-aarch64; then $(ARM64_CARGO) test --package coldframe-sys --target $(ARM64) --locked --quiet; fi

# The core's tests as well, but for those that want openat2, which the emulator has only from version 9.1 on, and the one
# that measures time.
test-arm64: check-arm64
	$(ARM64_CARGO) test --package coldframe-core --target $(ARM64) --locked --quiet -- --skip store:: --skip patience::

# A number that is broken is measured once more: what shares the machine passes, a regression stays.
bench: $(VENV)/built
	$(BIN)/python -m pytest benches --benchmark-only -q || $(BIN)/python -m pytest benches --benchmark-only -q --last-failed

# Random faults beside twenty thousand invocations: some minutes. The tests run a thousand.
soak: $(VENV)/built
	COLDFRAME_SOAK=20000 $(BIN)/python -m pytest tests/crash/test_soak.py -q -s

# The same work on what people would use instead; Debian has bubblewrap and runc. Writes docs/performance.md.
peers: $(VENV)/built
	$(BIN)/python -m pip install --quiet --group peers
	$(BIN)/python benches/peers --document docs/performance.md --plot docs/peers.svg

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "coldframe needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip maturin
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

$(VENV)/vm: $(VENV)/built
	$(BIN)/python -m pip install --quiet --group vm
	touch $@

$(VENV)/docs: $(VENV)/built
	$(BIN)/python -m pip install --quiet --group docs
	touch $@

# The release build: a debug build warns when it is imported, and its numbers mean nothing. As pip does, what runs inside is
# compiled: environments see it read-only, and every zygote would compile it again.
$(VENV)/built: $(VENV)/installed $(RUST)
	PIP_QUIET=1 VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --locked --quiet
	$(BIN)/python -m compileall -q python/coldframe/_runtime
	touch $@

clean:
	rm -rf $(VENV) target
