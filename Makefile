# SPDX-License-Identifier: MIT
#
# memctl: build, try, test and install. `make help` lists the targets.
#
# Each target first installs the Debian packages it needs and does not find (Tests/Setup/packages.sh;
# PACKAGES=skip leaves that out). Swift itself must be on PATH, or be named: make SWIFT=/path/to/swift.
# The build runs again only when a source is newer than build/.built.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
.NOTPARALLEL:
.DEFAULT_GOAL := all

PREFIX ?= /usr/local
DESTDIR ?=
SCRATCH ?= .build
PACKAGES ?= install
# Arguments for Tests/run.py: make test ARGS='--only Core'.
ARGS ?=
CC := $(if $(filter default,$(origin CC)),gcc,$(CC))

# The first one that exists: PATH, then where the usual installers put it.
SWIFT ?= $(firstword $(shell command -v swift) \
    $(wildcard /opt/swift/usr/bin/swift /usr/libexec/swift/bin/swift /usr/share/swift/usr/bin/swift) \
    $(wildcard $(HOME)/.local/share/swiftly/bin/swift))

# With its runtime linked in, the tool starts in half the time and is installed as one file.
ifneq ($(wildcard $(dir $(realpath $(SWIFT)))../lib/swift_static/linux),)
SWIFT_FLAGS ?= --static-swift-stdlib -Xswiftc -use-ld=lld
endif

# The library is compiled by the toolchain's clang, also where only `swift` itself is on PATH.
export PATH := $(PATH)$(if $(SWIFT),:$(dir $(SWIFT)):$(dir $(realpath $(SWIFT))))
export SWIFT SCRATCH

# Folders are named too: a deleted file changes its folder and nothing else.
SOURCES := $(shell find Package.swift Package.resolved Sources preload ! -name '.*' 2>/dev/null)

# What is installed below include/: the ABI, and the heap's own API.
HEADER_FOLDERS := $(wildcard Sources/CRegion/include preload/include)
HEADERS := $(foreach folder,$(HEADER_FOLDERS),$(patsubst $(folder)/%,%,$(shell find $(folder) -name '*.h')))

C_FILES = $(shell git ls-files '*.c' '*.h' '*.cc' '*.cpp')
SHELL_FILES = $(shell git ls-files '*.sh') .ci/run

.PHONY: all install uninstall clean demo test test-long test-numa bench bench-trace bench-tool \
    format lint help packages-build packages-demo packages-test packages-numa packages-bench \
    packages-lint

all: build/.built

build/.built: $(SOURCES) | packages-build
	@if ! command -v "$(SWIFT)" >/dev/null; then \
	    echo 'error: no swift found on PATH — install Swift 6.3 or newer from https://www.swift.org/install/linux/' >&2; \
	    echo '       (choose Debian 12) and put its usr/bin on PATH, or name it: make SWIFT=/path/to/swift' >&2; \
	    exit 1; \
	fi
	@if ! [ -f Package.swift ]; then \
	    echo 'error: no Package.swift here — run make in the root of the checkout' >&2; exit 1; \
	fi
	"$(SWIFT)" build -c release --scratch-path "$(SCRATCH)" $(SWIFT_FLAGS)
	@install -D -m 755 "$(SCRATCH)/release/memctl" build/bin/memctl
	@install -D -m 755 "$(SCRATCH)/release/memctl_CPreload.resources/libmemctl.so" build/lib/libmemctl.so
	@rm -rf build/include
	@install -d build/include
	@for folder in $(HEADER_FOLDERS); do \
	    find $$folder -name '*.h' -printf '%P\n' | \
	        while read -r header; do install -D -m 644 $$folder/$$header build/include/$$header; done; \
	done
	@touch $@
	@echo 'built: build/bin/memctl  build/lib/libmemctl.so  build/include/'

# ldconfig: so that LD_PRELOAD=libmemctl.so is found by name, where the loader looks in PREFIX/lib.
install: all
	@install -D -m 755 build/bin/memctl "$(DESTDIR)$(PREFIX)/bin/memctl"
	@install -D -m 755 build/lib/libmemctl.so "$(DESTDIR)$(PREFIX)/lib/libmemctl.so"
	@for header in $(HEADERS); do \
	    install -D -m 644 build/include/$$header "$(DESTDIR)$(PREFIX)/include/$$header"; \
	done
	@[ -n "$(DESTDIR)" ] || ldconfig 2>/dev/null || true
	@echo 'installed in $(DESTDIR)$(PREFIX): bin/memctl lib/libmemctl.so include/'

uninstall:
	@rm -f "$(DESTDIR)$(PREFIX)/bin/memctl" "$(DESTDIR)$(PREFIX)/lib/libmemctl.so"
	@for header in $(HEADERS); do rm -f "$(DESTDIR)$(PREFIX)/include/$$header"; done
	@[ -n "$(DESTDIR)" ] || ldconfig 2>/dev/null || true
	@echo 'removed from $(DESTDIR)$(PREFIX)'

clean:
	rm -rf build "$(SCRATCH)"

build/demo/orders: docs/demo/orders.c | packages-demo
	@mkdir -p build/demo
	$(CC) -std=gnu17 -O2 -g -Wall -Wextra -o $@ $< \
	    $$(pkg-config --cflags --libs libxml-2.0 libcrypto sqlite3 zlib)

# Packages first and all at once: without root one command is printed, and it is the whole one.
demo: packages-demo all build/demo/orders
	@docs/demo/run.sh

test: packages-test all
	@python3 Tests/run.py $(ARGS)

test-long: packages-test all
	@python3 Tests/run.py --long $(ARGS)

# Two nodes, in an emulated machine: takes minutes, and a kernel from Debian.
test-numa: packages-numa all
	@python3 Tests/Numa/run.py $(ARGS)

bench: packages-bench all
	@python3 Benchmarks/compare.py $(ARGS)

bench-trace: packages-bench all
	@python3 Benchmarks/Trace/compare.py $(ARGS)

bench-tool: packages-bench all
	@python3 Benchmarks/Tool/reports.py $(ARGS)

format: | packages-lint
	clang-format-14 -i $(C_FILES)
	"$(SWIFT)" format --in-place --parallel --recursive Package.swift Sources Tests preload

lint: | packages-lint
	clang-format-14 --dry-run -Werror $(C_FILES)
	"$(SWIFT)" format lint --strict --parallel --recursive Package.swift Sources Tests preload
	shellcheck -x $(SHELL_FILES)

packages-build packages-demo packages-test packages-numa packages-bench packages-lint: packages-%:
	@[ "$(PACKAGES)" = skip ] || Tests/Setup/packages.sh $*

help:
	@echo 'make               build/bin/memctl, build/lib/libmemctl.so, build/include/'
	@echo 'make demo          find a leak in a small program that uses four libraries (a minute)'
	@echo 'make test          every test; the last line counts them (at most 40 minutes)'
	@echo 'make test-long     the same, with longer runs of the randomised tests'
	@echo 'make test-numa     reports on a machine of two nodes, which is emulated (minutes)'
	@echo "make test ARGS='--only Core'   one suite; ARGS=--list names them"
	@echo 'make install       into PREFIX=/usr/local, below DESTDIR when given'
	@echo 'make uninstall     takes those files away again'
	@echo 'make bench         speed and memory, beside other allocators'
	@echo 'make bench-trace   what tracing costs'
	@echo 'make bench-tool    how long reports take, and hold a program up'
	@echo 'make format        rewrites the sources in the house style'
	@echo 'make lint          checks the style, changes nothing'
	@echo 'make clean         removes build/ and .build/'
	@echo
	@echo 'PACKAGES=skip installs no Debian packages; SWIFT=/path/to/swift names another Swift.'
