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
PKG_LIBS   = $(shell pkg-config --libs $(LIBS))

WARNINGS  := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Werror
HARDENING := -fstack-protector-strong -fcf-protection -fPIE
OPTIMIZE  ?= -O2 -g
ifeq ($(SAN),)
HARDENING += -D_FORTIFY_SOURCE=2
else
OPTIMIZE  := -O1 -g -fno-omit-frame-pointer
SAN_FLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=all
endif
BASE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I. -I$(OUT)/include $(PKG_CFLAGS) -DDIODECAST_VERSION='"$(VERSION)"' -pthread
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
SENDER_CORE   := pack schedule encode interleave pace
RECEIVER_CORE := gather decode unpack assembly catalog knowledge
CORE_OBJ := $(patsubst %,$(OUT)/sender/%.o,$(SENDER_CORE)) $(patsubst %,$(OUT)/receiver/%.o,$(RECEIVER_CORE))

PROGRAMS := $(OUT)/diodecast-sender $(OUT)/diodecast-receiver $(OUT)/diodecast $(OUT)/diodecast-impair
UNIT_SRC := $(wildcard tests/unit/*.c)
UNIT     := $(patsubst %.c,$(OUT)/%,$(UNIT_SRC))
SIM      := $(OUT)/tests/sim/sim

.PHONY: all help deps demo check check-long lint bench fuzz install clean format tests
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

all: $(PROGRAMS) ## build the programs into build/

tests: all $(UNIT) $(SIM)

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
$(OUT)/diodecast: $(TOOLS_OBJ) $(OUT)/libcommon.a
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

clean:
	rm -rf $(BUILD)

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
