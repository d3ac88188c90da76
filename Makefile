# SPDX-License-Identifier: Apache-2.0
# diodecast: one non-recursive makefile. `make help` lists the targets.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
SAN     ?=
V       ?= 0
VERSION := 0.1.0

# A build with sanitizers lives in a folder of its own: SAN=address,undefined or SAN=thread.
comma := ,
ifneq ($(SAN),)
OUT := $(BUILD)/san-$(subst $(comma),-,$(SAN))
else
OUT := $(BUILD)
endif

ifeq ($(V),0)
Q := @
say = @printf '  %-8s %s\n' '$(1)' '$(2)'
else
Q :=
say = @:
endif

CC    ?= cc
CLANG ?= clang
LIBS  := libuv liburing libcrypto libxxhash libsodium libprotobuf-c libisal sqlite3 inih jansson libsystemd libseccomp
PKG_CFLAGS = $(shell pkg-config --cflags $(LIBS))
PKG_LIBS   = $(shell pkg-config --libs $(LIBS)) $(if $(IPSEC_MB),-lIPSec_MB)

# Intel's AES-GCM (common/gcm.h) exists for x86-64 only and knows no pkg-config; "make IPSEC_MB=" does without.
ifeq ($(origin IPSEC_MB)$(findstring x86_64,$(shell $(CC) -dumpmachine 2>/dev/null)),undefinedx86_64)
IPSEC_MB := $(shell $(CC) -include intel-ipsec-mb.h -E -x c /dev/null >/dev/null 2>&1 && echo yes)
endif

WARNINGS  := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Werror
HARDENING := -fstack-protector-strong -fcf-protection -fPIE
OPTIMIZE  ?= -O2 -g
ifeq ($(SAN),)
HARDENING += -D_FORTIFY_SOURCE=2
else
OPTIMIZE  := -O1 -g -fno-omit-frame-pointer
SAN_FLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=all
endif
BASE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I. -I$(OUT)/include $(PKG_CFLAGS) $(if $(IPSEC_MB),-DHAVE_IPSEC_MB) -DDIODECAST_VERSION='"$(VERSION)"' -pthread
ALL_CFLAGS  = $(BASE_CFLAGS) $(OPTIMIZE) $(WARNINGS) $(HARDENING) $(SAN_FLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now $(SAN_FLAGS) -pthread $(LDFLAGS)

# Sources by room. Each folder is one archive; the programs take what they need.
objects = $(patsubst %.c,$(OUT)/%.o,$(1))
PB_C := $(OUT)/include/proto/diodecast.pb-c.c
PB_H := $(OUT)/include/proto/diodecast.pb-c.h
COMMON_OBJ   := $(call objects,$(wildcard common/*.c)) $(call objects,$(wildcard proto/*.c)) $(OUT)/proto/diodecast.pb-c.o
SENDER_OBJ   := $(call objects,$(filter-out sender/main.c,$(wildcard sender/*.c)))
RECEIVER_OBJ := $(call objects,$(filter-out receiver/main.c,$(wildcard receiver/*.c)))
TOOLS_OBJ    := $(call objects,$(filter-out tools/impair.c,$(wildcard tools/*.c)))

# What decides, without the I/O around it: all that the simulation needs of both sides.
SENDER_CORE   := schedule announce pack encode interleave group pace heartbeat idle mark parts replay heal printable
RECEIVER_CORE := arena gather gather_window gather_state handover loss trail epochs progress decode unpack checks extents assembly room catalog catalog_room bounds claims knowledge missing partial keeper restore judge opening renumber
CORE_OBJ := $(patsubst %,$(OUT)/sender/%.o,$(SENDER_CORE)) $(patsubst %,$(OUT)/receiver/%.o,$(RECEIVER_CORE))

PROGRAMS := $(OUT)/diodecast-sender $(OUT)/diodecast-receiver $(OUT)/diodecast $(OUT)/diodecast-impair
UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT     := $(patsubst %.c,$(OUT)/%,$(UNIT_SRC))
SIM      := $(OUT)/tests/sim/sim
SHIM     := $(OUT)/tests/crash/shim.so
FLOOD    := $(OUT)/tests/system/flood

.PHONY: all help deps demo check check-long check-crash check-silence check-systemd lint bench fuzz install clean format tests threaded-tests fuzz-programs \
	coverage coverage-programs
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

all: $(PROGRAMS) ## build the programs into build/

tests: all $(UNIT) $(SIM) $(SHIM) $(FLOOD)
threaded-tests: all $(OUT)/tests/unit/test_threads $(OUT)/tests/unit/test_audit_threads

$(OUT)/lib%.a:
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^
$(OUT)/libcommon.a: $(COMMON_OBJ)
$(OUT)/libsender.a: $(SENDER_OBJ)
$(OUT)/libreceiver.a: $(RECEIVER_OBJ)
$(OUT)/libcore.a: $(CORE_OBJ)

link = $(call say,LD,$@)
define do_link
$(Q)mkdir -p $(@D) && $(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(PKG_LIBS) $(1)
endef

$(OUT)/diodecast-sender: $(OUT)/sender/main.o $(OUT)/libsender.a $(OUT)/libcommon.a
	$(link)
	$(call do_link)
$(OUT)/diodecast-receiver: $(OUT)/receiver/main.o $(OUT)/libreceiver.a $(OUT)/libcommon.a
	$(link)
	$(call do_link)
# The command walks items with the sender's own scan.
$(OUT)/diodecast: $(TOOLS_OBJ) $(OUT)/libsender.a $(OUT)/libcommon.a
	$(link)
	$(call do_link)
$(OUT)/diodecast-impair: $(OUT)/tools/impair.o $(OUT)/libcommon.a
	$(link)
	$(call do_link)

$(PB_C) $(PB_H) &: proto/diodecast.proto
	$(call say,PROTOC,$<)
	$(Q)mkdir -p $(OUT)/include/proto && protoc-c --proto_path=proto --c_out=$(OUT)/include/proto $<
$(OUT)/proto/diodecast.pb-c.o: $(PB_C)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(BASE_CFLAGS) $(OPTIMIZE) $(HARDENING) $(SAN_FLAGS) -c -o $@ $<
$(OUT)/%.o: %.c | $(PB_H)
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# gcc 12 aligns what AddressSanitizer moves off the stack to 32 bytes only (GCC bug 110027): too little for AVX-512.
ifeq ($(OUT),$(BUILD)/san-address-undefined)
$(OUT)/common/gfkernel.o: SAN_FLAGS += --param asan-use-after-return=0
endif

# Hashing of this test can be slowed down.
$(OUT)/tests/unit/sender_pipeline: private LDFLAGS += -Wl,--wrap=digest_update
# A unit test links the side that its name starts with; cmocka for all.
$(OUT)/tests/unit/sender_%: $(OUT)/tests/unit/sender_%.o $(OUT)/libsender.a $(OUT)/libcommon.a
	$(link)
	$(call do_link,-lcmocka)
$(OUT)/tests/unit/receiver_%: $(OUT)/tests/unit/receiver_%.o $(OUT)/libreceiver.a $(OUT)/libcommon.a
	$(link)
	$(call do_link,-lcmocka)
$(OUT)/tests/unit/%: $(OUT)/tests/unit/%.o $(OUT)/libcommon.a
	$(link)
	$(call do_link,-lcmocka)
$(SIM): $(call objects,$(wildcard tests/sim/*.c)) $(OUT)/libcore.a $(OUT)/libcommon.a
	$(link)
	$(call do_link)

# The attacker of tests/system/test_flood.py.
$(FLOOD): $(OUT)/tests/system/flood.o
	$(link)
	$(call do_link)

# Ends a daemon at a chosen I/O boundary; preloaded by tests/crash/campaign.py.
$(SHIM): tests/crash/shim.c
	$(link)
	$(Q)mkdir -p $(@D) && $(CC) $(BASE_CFLAGS) $(OPTIMIZE) $(WARNINGS) -shared -fPIC -o $@ $<

# The yardsticks of tests/bench/bench.py, each stage alone (a program links the side that its name starts with), and the FEC
# kernels beside each other.
BENCH := $(patsubst %.c,$(OUT)/%,$(wildcard tests/bench/*.c))
$(OUT)/tests/bench/sender_%: $(OUT)/tests/bench/sender_%.o $(OUT)/libsender.a $(OUT)/libcommon.a
	$(link)
	$(call do_link)
$(OUT)/tests/bench/receiver_%: $(OUT)/tests/bench/receiver_%.o $(OUT)/libreceiver.a $(OUT)/libcommon.a
	$(link)
	$(call do_link)
$(OUT)/tests/bench/%: $(OUT)/tests/bench/%.o $(OUT)/libcommon.a
	$(link)
	$(call do_link)

# Fuzz targets are libFuzzer's, so everything below them is compiled by clang once more, in a folder of its own.
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_LIBS  := $(OUT)/libfuzz.a $(OUT)/libcore.a $(OUT)/libcommon.a
$(OUT)/libfuzz.a: $(call objects,$(filter-out tests/fuzz/fuzz_%.c tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c)) tools/status_view.c tools/terminal.c)
ifeq ($(OUT),$(BUILD)/fuzz)
$(OUT)/fuzz_%: $(OUT)/tests/fuzz/fuzz_%.o $(FUZZ_LIBS)
	$(link)
	$(call do_link,-fsanitize=fuzzer)
endif
# The same targets without libFuzzer, which only replay files.
$(OUT)/replay_%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/tests/fuzz/replay.o $(FUZZ_LIBS)
	$(link)
	$(call do_link)
# Signatures that cost next to nothing.
$(OUT)/fuzz_receiver $(OUT)/replay_receiver: $(OUT)/tests/sim/signature.o
fuzz-programs:
	$(Q)$(MAKE) --no-print-directory CC=$(CLANG) SAN=fuzzer-no-link,address,undefined OUT=$(BUILD)/fuzz \
		WARNINGS='-Wall -Wextra -Wno-missing-field-initializers -Werror' $(patsubst %,$(BUILD)/fuzz/fuzz_%,$(FUZZ_NAMES))
coverage-programs: $(UNIT) $(SIM) $(patsubst %,$(OUT)/replay_%,$(FUZZ_NAMES))

JOBS := $(shell nproc)
submake = $(Q)$(MAKE) --no-print-directory -j$(JOBS)
CHECK_ENV = BUILD=$(BUILD)

# All variants, each in its folder.
define build_variants
	$(submake) tests
	$(submake) SAN=address,undefined tests
	$(submake) SAN=thread threaded-tests
	$(submake) fuzz-programs
endef

deps: ## install the Debian packages that are missing (all of build, demo, check, lint, bench)
	$(Q)tools/deps.sh

demo: ## install what is missing, build, and show the pair at work over a lossy link on this machine
	$(Q)tools/deps.sh build demo
	$(submake) all
	$(Q)$(CHECK_ENV) tools/demo.sh

check: ## install what is missing, build and run all tests (below 25 minutes on two cores)
	$(Q)tools/deps.sh build demo check
	$(build_variants)
	$(Q)$(CHECK_ENV) tests/check.sh

check-long: ## as check, with more seeds, longer fuzzing and the long system tests
	$(Q)tools/deps.sh build demo check
	$(build_variants)
	$(Q)$(CHECK_ENV) DIODECAST_LONG=1 tests/check.sh

check-crash: ## kill both daemons CRASH_KILLS (10000) times while transfers cross (check does 500)
	$(Q)tools/deps.sh build demo check
	$(submake) tests
	$(Q)CRASH_KILLS=$${CRASH_KILLS:-10000} $(CHECK_ENV) tests/check.sh crash

check-systemd: ## boot the units in a small Debian (downloads 60 MB once; needs root; five minutes)
	$(Q)tools/deps.sh build demo check systemd-check
	$(submake) all
	$(Q)DIODECAST_BUILD=$(BUILD) /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider tests/systemd

check-silence: ## long form: nothing leaves the high end of a link, over 100 restarts, scans and floods (needs root)
	$(Q)tools/deps.sh build demo check
	$(submake) all
	$(Q)DIODECAST_LONG=1 DIODECAST_BUILD=$(BUILD) /usr/bin/python3 -m pytest -q -rs -s -p no:cacheprovider tests/system/test_silence.py

fuzz: ## fuzz every target for SECONDS each (without: 200 for all, on each processor)
	$(Q)tools/deps.sh build check
	$(submake) fuzz-programs
	$(Q)$(CHECK_ENV) $(if $(SECONDS),FUZZ_SECONDS=$(SECONDS)) tests/check.sh fuzz

coverage: ## line coverage of what hostile bytes meet, by unit tests, corpora and simulation; below 95 % is a failure
	$(Q)tools/deps.sh build check
	$(submake) OUT=$(BUILD)/coverage OPTIMIZE='-O0 -g --coverage -fprofile-update=atomic' HARDENING=-fPIE \
		LDFLAGS=--coverage coverage-programs
	$(Q)$(CHECK_ENV) tests/coverage.sh

bench: ## measure beside the yardsticks and udpcast, in one run (BENCH_OPTIONS=--quick for a short one)
	$(Q)tools/deps.sh build bench
	$(submake) all $(BENCH)
	$(Q)DIODECAST_BUILD=$(BUILD) /usr/bin/python3 tests/bench/bench.py $(BENCH_OPTIONS)

lint: ## formatting, static analysis, man pages, and the rules of CONTRIBUTING.md
	$(Q)tools/deps.sh build lint
	$(submake) $(PB_H)
	$(Q)LINT_CFLAGS="$(filter-out -DDIODECAST_VERSION=%,$(BASE_CFLAGS)) -DDIODECAST_VERSION=\"$(VERSION)\"" tools/lint.sh

format: ## format the C sources in place
	$(Q)git ls-files -co --exclude-standard -- '*.[ch]' | xargs clang-format -i

# A unit may name the folder of the programs as @BINDIR@.
install: all ## install below $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 0755 tools/diodecast-link.sh $(DESTDIR)$(PREFIX)/bin/diodecast-link
	$(Q)for page in $(wildcard */*.1 */*.5 */*.7 */*.8); do \
		install -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/} || exit; \
	done
	$(Q)for sample in $(wildcard */*.conf.example); do \
		name=$${sample##*/}; \
		install -D -m 0644 $$sample $(DESTDIR)$(PREFIX)/share/doc/diodecast/examples/$${name%.example} || exit; \
	done
	$(Q)for unit in $(wildcard systemd/*.service systemd/*.socket systemd/*.target); do \
		install -D -m 0644 $$unit $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} && \
		sed -i 's|@BINDIR@|$(PREFIX)/bin|g' $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/} || exit; \
	done
	$(Q)for kind in sysusers tmpfiles sysctl; do \
		for file in $(wildcard systemd/*.conf); do \
			case $$file in *.$$kind.conf) ;; *) continue ;; esac; \
			name=$${file##*/}; \
			install -D -m 0644 $$file $(DESTDIR)$(PREFIX)/lib/$$kind.d/$${name%.$$kind.conf}.conf || exit; \
		done; \
	done

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

clean: ## remove the build folder
	rm -rf $(BUILD)

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
