# make run   set up everything and measure Tor on the private network of this machine (Ctrl-C stops it)
# make test  set up everything and run lint, types and all tests
# make test-long  the same, also the tests that take long, and more examples of each property
# make accessibility  pages in a real Firefox, with axe-core and html-validate (needs npm)
# make test-r run the example in R of docs/formats.md
# make bench set up everything and print speed and memory as ratios against peers
# make lab-study  compares on the lab again and again, whether a slowing of 3 % is found, and nothing where there is none
# make lab-scan  scans a network of 20 relays, of which one is slow and one loses streams, and finds these two and no other
# make campaign N=300 SEED=1  set up everything, injects so many faults into instances, and checks what must hold
# make deb   builds the Debian package for this machine's release (Debian 13; 12 with its own libraries)
# make deb-test  as root, builds it in a chroot of RELEASES, and installs, starts (systemd too), upgrades and purges it in another
# make container-test  as root, builds the container images on a base of debootstrap's, and runs, stops and looks at them
# make picture draws the README's terminal anew
#
# As root, missing Debian packages are installed; otherwise the ones to install are named.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_TOOLS := $(VENV)/.installed-tools

.PHONY: deb deb-test container-test man run test test-long accessibility lint types unit bench lab-study lab-scan picture setup tools clean packages-run packages-test packages-r packages-bench

run: packages-run setup
	$(BIN)/perfd run --config perfd.conf

test: packages-test tools lint types unit

lint: tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: tools
	$(BIN)/mypy

unit: tools geckodriver
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m "not long"

# All tests, also those that are marked as long, and more examples of each property. About half an hour.
test-long: packages-test tools geckodriver
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -n 3 --dist loadgroup

# Pages in a real Firefox with axe-core, and their HTML with html-validate, which npm gets; both are not ours to keep.
# These versions run on Debian 12's Node 18 and later ones.
NODE := build/node
accessibility: packages-test tools geckodriver
	@$(MAKE) --no-print-directory need NEED="npm:npm"
	npm install --prefix $(NODE) --no-save --no-audit --no-fund --silent axe-core@4.14.1 html-validate@8.29.0
	$(BIN)/python -m pytest -m "not long" tests/real/test_pages.py

# The example in R of docs/formats.md.
test-r: packages-r tools
	$(BIN)/python -m pytest tests/formats/test_dictionary.py -k example_in_r

bench: packages-bench tools
	$(BIN)/python -m bench

# Hours: whether perfd compare finds on the lab what it promises. Interrupted, it goes on the next time; STUDY="--help".
lab-study: packages-test tools
	$(BIN)/python -m bench.study $(STUDY)

# About 40 minutes: whether perfd scan finds on the lab what it promises. SCAN="--passes N".
lab-scan: packages-test tools
	$(BIN)/python -m bench.scan $(SCAN)

# Long; docs/reliability.md says what it does. RESULTS is a file to write them to, JOBS how many instances run at a time.
N ?= 30
SEED ?= 1
JOBS ?= 2
campaign: packages-test tools
	$(BIN)/python -m tests.campaign.run --faults $(N) --seed $(SEED) --jobs $(JOBS) $(if $(RESULTS),--results $(RESULTS))

# What running needs, and what tests and benches need besides. Both install the checkout itself, so that a change of
# the code needs no new installation.
setup: $(INSTALLED)
tools: $(INSTALLED_TOOLS)

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Perfd needs Python 3.11 or later; try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory apt PACKAGES="python3-venv"
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): setup.py pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) '.[plots]'
	touch $@

$(INSTALLED_TOOLS): setup.py pyproject.toml | $(BIN)/python
	$(PIP_INSTALL) '.[browser,parquet,plots,selenium,test]'
	touch $(INSTALLED) $@

# The picture of a terminal in the README, made of what the command writes.
picture: packages-test tools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pyte>=0.8'
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python docs/terminal_picture.py docs/terminal.png --columns 96 \
		"perfd measure --size 1MiB --count 5"

# perfd(1) and perfd.conf(5), made of what the command line understands and of docs/configuration.md.
man: setup
	$(BIN)/python docs/man_pages.py build/man

# The packages lie in build/deb/RELEASE. Not parts of make test: they need the base systems, and some ten minutes each.
RELEASES ?= trixie bookworm

deb:
	@$(MAKE) --no-print-directory need NEED="dpkg-buildpackage:dpkg-dev dh:debhelper"
	@release=$$(. /etc/os-release; echo $$VERSION_CODENAME) && debian/build-package $$release build/deb/$$release

deb-test:
	@$(MAKE) --no-print-directory need NEED="debootstrap:debootstrap systemd-nspawn:systemd-container"
	for release in $(RELEASES); do tests/packages/deb.sh $$release build/deb || exit 1; done

container-test:
	@$(MAKE) --no-print-directory need NEED="debootstrap:debootstrap podman:podman crun:crun runc:runc curl:curl"
	tests/packages/container.sh build/container slim firefox

# The Selenium driver is tested with an old geckodriver, which an sdist on PyPI has; Debian 12 has none at all.
# Where it cannot be had, those tests are skipped.
GECKODRIVER := $(VENV)/geckodriver

.PHONY: geckodriver
geckodriver: tools
	@test -x $(GECKODRIVER)/geckodriver || { \
		mkdir -p $(GECKODRIVER) && \
		$(BIN)/python -m pip download --quiet --disable-pip-version-check --retries 1 --no-deps --no-binary :all: \
			--dest $(GECKODRIVER) helium==3.0.8 && \
		tar -xzf $(GECKODRIVER)/helium-3.0.8.tar.gz -C $(GECKODRIVER) --strip-components=5 \
			helium-3.0.8/helium/_impl/webdrivers/linux/geckodriver; \
	} || echo "no geckodriver: the Selenium driver is not tested with a real browser"
	@rm -f $(GECKODRIVER)/*.tar.gz

# One line per program that is needed: its command, then Debian's package.
packages-run:
	@$(MAKE) --no-print-directory need NEED="tor:tor tor-gencert:tor"

packages-test:
	@$(MAKE) --no-print-directory need NEED="tor:tor tor-gencert:tor curl:curl firefox-esr:firefox-esr promtool:prometheus \
		danted:dante-server obfs4proxy:obfs4proxy zsh:zsh fish:fish"

packages-r:
	@$(MAKE) --no-print-directory need NEED="Rscript:r-base-core"

packages-bench:
	@$(MAKE) --no-print-directory need NEED="tor:tor tor-gencert:tor curl:curl nginx:nginx-light wrk:wrk tcpdump:tcpdump"

.PHONY: need apt
need:
	@missing=""; \
	for item in $(NEED); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v $${item%%:*} >/dev/null 2>&1 || missing="$$missing $${item##*:}"; \
	done; \
	test -z "$$missing" || $(MAKE) --no-print-directory apt PACKAGES="$$missing"

apt:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "installing$(PACKAGES:%= %)"; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null; \
	else \
		echo "Please install these Debian packages first: $(PACKAGES)"; exit 1; \
	fi

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis _trial_temp*
