# km: build, checks, tests. GNU Make; nothing recursive. `make help` lists what there is.
#
#   make [V=1] [BUILD=dir] [SANITIZE=address,undefined] TARGET

SHELL := /bin/bash
.DELETE_ON_ERROR:
.SUFFIXES:

Q := $(if $(V),,@)
# Checks and tests use all cores unless told otherwise.
ifneq ($(filter check test test-programs bench demo,$(MAKECMDGOALS)),)
  ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
    MAKEFLAGS += -j$(shell nproc)
  endif
endif
export V

# ---- Flags -----------------------------------------------------------------------------------------

BUILD := $(if $(SANITIZE),build-sanitize,build)
CXX := g++
CLANGXX := clang++
PREFIX := /usr/local

WARNINGS := -Wall -Wextra -Wshadow -Werror
COMMON_FLAGS := -std=c++20 -I. -Iinclude $(WARNINGS)
CXXFLAGS := -O2 -g
BUILD_FLAGS = $(COMMON_FLAGS) $(CXXFLAGS) -ffunction-sections -fdata-sections \
  $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
LDFLAGS := -Wl,--gc-sections

# Shared libraries would cost km a millisecond at every start. The sanitizers' runtimes need them.
STATIC := $(if $(SANITIZE),-fsanitize=$(SANITIZE),-static -no-pie)

# pkg-config takes seconds for these, so it is asked once, and only when something is linked: it may
# not be installed before tools/setup ran.
ABSL_PACKAGES := absl_btree absl_cleanup absl_flags absl_flags_parse absl_flags_usage \
  absl_flat_hash_map absl_flat_hash_set absl_inlined_vector absl_node_hash_map absl_span \
  absl_status absl_statusor absl_str_format absl_strings absl_synchronization absl_time
ABSL_LIBS := $(BUILD)/absl-libs
LIBS = -Wl,--start-group $$(cat $(ABSL_LIBS)) \
  -lelf -lz -lxxhash -Wl,--end-group -pthread
TEST_LIBS := -lgmock -lgtest -lgtest_main

# ---- Sources ---------------------------------------------------------------------------------------

MONITOR_SOURCES := $(sort $(wildcard km/*/*.cc))
KMCTL_SOURCES := $(sort $(wildcard tools/kmctl/*.cc))
UNIT_SOURCES := $(sort $(wildcard tests/unit/*.cc tests/unit/*/*.cc))
BENCH_SOURCES := $(sort $(wildcard tests/bench/*_bench.cc))
PROGRAM_SOURCES := $(MONITOR_SOURCES) $(wildcard km/main.cc) $(KMCTL_SOURCES)
ALL_SOURCES := $(PROGRAM_SOURCES) $(UNIT_SOURCES) $(BENCH_SOURCES)

objects = $(patsubst %.cc,$(BUILD)/obj/%.o,$(1))

PROGRAMS := $(if $(wildcard km/main.cc),$(BUILD)/km) $(if $(KMCTL_SOURCES),$(BUILD)/kmctl)
UNIT_TESTS := $(if $(UNIT_SOURCES),$(BUILD)/unit_tests)

.PHONY: all
all: $(if $(MONITOR_SOURCES),$(BUILD)/libmonitor.a) $(PROGRAMS)

# Defines RUNTIME_OBJECTS (linked into km and the unit tests), RUNTIME_PRODUCTS (libkm.a, km-cc) and
# their rules.
B := $(BUILD)
-include runtime/runtime.mk

all: $(RUNTIME_PRODUCTS)

# What the checks and tests need is installed before anything else happens.
setup_groups := $(sort $(if $(filter check,$(MAKECMDGOALS)),build check bench) \
  $(if $(filter test test-programs fuzz demo,$(MAKECMDGOALS)),build test) \
  $(if $(filter test-programs,$(MAKECMDGOALS)),programs) \
  $(if $(filter bench,$(MAKECMDGOALS)),build test bench programs))
ifneq ($(setup_groups),)
  ifneq ($(shell tools/setup $(setup_groups) >&2 && echo done),done)
    $(error tools/setup failed)
  endif
endif

# ---- Programs --------------------------------------------------------------------------------------

# $(call record,FILE,TEXT): FILE changes only when TEXT does, so a new flag or a deleted source
# rebuilds what it must.
record = $(shell mkdir -p $(BUILD); \
  [ "$$(cat $(BUILD)/$(1) 2>/dev/null)" = '$(strip $(2))' ] || echo '$(strip $(2))' >$(BUILD)/$(1))
ifeq ($(filter clean help format,$(MAKECMDGOALS)),)
  $(call record,flags,$(CXX) $(BUILD_FLAGS))
  $(call record,sources,$(ALL_SOURCES))
endif

$(BUILD)/obj/%.o: %.cc $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX  $<")
	$(Q)$(CXX) $(BUILD_FLAGS) -MMD -MP -c $< -o $@

# The archive is made anew: `ar r` would keep the objects of deleted sources.
$(BUILD)/libmonitor.a: $(call objects,$(MONITOR_SOURCES)) $(BUILD)/sources
	@rm -f $@
	$(Q)ar rcs $@ $(filter %.o,$^)

$(ABSL_LIBS): Makefile
	@mkdir -p $(@D)
	$(Q)pkg-config --static --libs $(ABSL_PACKAGES) >$@

# The monitor's own answer in place of a function of abseil's (km/main.cc says why), whose name has the
# library's version in it.
ABSL_WRAP := $(BUILD)/absl-wrap
$(ABSL_WRAP): Makefile
	@mkdir -p $(@D)
	$(Q)nm --defined-only "$$(pkg-config --variable=libdir absl_base)/libabsl_base.a" 2>/dev/null | sed -n \
	  's/.* T \(_ZN.*19NominalCPUFrequencyEv\)$$/-Wl,--wrap=\1 -Wl,--defsym=__wrap_\1=km_nominal_frequency/p' >$@

$(BUILD)/km $(BUILD)/kmctl $(BUILD)/unit_tests $(BUILD)/microbench: $(ABSL_LIBS)
$(BUILD)/km: LDFLAGS += $$(cat $(ABSL_WRAP))
$(BUILD)/km: $(ABSL_WRAP)
$(BUILD)/km: $(call objects,km/main.cc) $(BUILD)/libmonitor.a $(RUNTIME_OBJECTS)
$(BUILD)/kmctl: $(call objects,$(KMCTL_SOURCES)) $(BUILD)/libmonitor.a $(RUNTIME_OBJECTS)
$(BUILD)/km $(BUILD)/kmctl:
	$(if $(V),,@echo "  LINK $@")
	$(Q)$(CXX) $(STATIC) $(LDFLAGS) $(filter %.o,$^) $(BUILD)/libmonitor.a $(LIBS) -o $@

$(BUILD)/unit_tests: $(call objects,$(UNIT_SOURCES)) $(BUILD)/libmonitor.a $(RUNTIME_OBJECTS)
	$(if $(V),,@echo "  LINK $@")
	$(Q)$(CXX) $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS) $(filter %.o,$^) \
	  $(BUILD)/libmonitor.a $(TEST_LIBS) $(LIBS) -o $@

$(BUILD)/microbench: $(call objects,$(BENCH_SOURCES)) $(BUILD)/libmonitor.a $(RUNTIME_OBJECTS)
	$(if $(V),,@echo "  LINK $@")
	$(Q)$(CXX) $(LDFLAGS) $(filter %.o,$^) $(BUILD)/libmonitor.a -lbenchmark_main -lbenchmark \
	  $(LIBS) -o $@

# ---- Tests -----------------------------------------------------------------------------------------

.PHONY: test test-programs bench demo unit
unit: $(UNIT_TESTS)

# Under a sanitizer only what runs without KVM.
test: $(UNIT_TESTS) $(if $(SANITIZE),,all)
	$(Q)BUILD=$(BUILD) tests/run-all $(if $(SANITIZE),unit,unit guest snapshot cli inject)

test-programs: all
	$(Q)BUILD=$(BUILD) tests/run-all programs

bench: all $(BUILD)/microbench
	$(Q)BUILD=$(BUILD) tests/bench/run

demo: all
	$(Q)if [ -x tools/demo ]; then BUILD=$(BUILD) tools/demo; \
	  else echo "tools/demo is not there yet"; fi

# ---- Fuzzing ---------------------------------------------------------------------------------------

# clang's libFuzzer with the sanitizers, in a directory of its own. All of the monitor is made anew:
# abseil's containers have another layout in instrumented code, which must not meet the plain one.
# The machine is tests/fuzz/no_kvm.cc.
FUZZ := build-fuzz
FUZZ_SECONDS := 60
FUZZ_FLAGS = $(COMMON_FLAGS) -O1 -gline-tables-only -fno-omit-frame-pointer \
  -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZED_MONITOR := $(filter-out km/kvm/vm.cc km/kvm/vcpu.cc,$(MONITOR_SOURCES))
FUZZED_SYSCALLS := $(addprefix tests/fuzz/,syscalls.cc confine.cc faults.cc no_kvm.cc)
FUZZED_PARSER := $(addprefix tests/fuzz/,parse_snapshot.cc no_kvm.cc)
FUZZED_CONTROL := tests/fuzz/control.cc
FUZZED_DESK := $(addprefix tests/fuzz/,desk.cc confine.cc faults.cc no_kvm.cc)
FUZZED_SOURCES := $(sort $(FUZZED_SYSCALLS) $(FUZZED_PARSER) $(FUZZED_CONTROL) $(FUZZED_DESK))
fuzz_objects = $(patsubst %.cc,$(FUZZ)/obj/%.o,$(1))
ifneq ($(filter fuzz fuzz-programs,$(MAKECMDGOALS)),)
  FUZZ_RECORDED := $(shell mkdir -p $(FUZZ); echo '$(FUZZ_FLAGS) $(FUZZED_MONITOR)' | \
    cmp -s - $(FUZZ)/flags || echo '$(FUZZ_FLAGS) $(FUZZED_MONITOR)' >$(FUZZ)/flags)
endif

.PHONY: fuzz fuzz-programs
fuzz: fuzz-programs
	$(Q)BUILD=$(BUILD) FUZZ=$(FUZZ) SECONDS_EACH=$(FUZZ_SECONDS) tests/run-all fuzz

FUZZ_PROGRAMS := $(addprefix $(FUZZ)/,syscalls parse_snapshot control desk)
fuzz-programs: $(FUZZ_PROGRAMS)

$(FUZZ)/obj/%.o: %.cc $(FUZZ)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  FUZZ $<")
	$(Q)$(CLANGXX) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@

$(FUZZ)/libmonitor.a: $(call fuzz_objects,$(FUZZED_MONITOR)) $(FUZZ)/flags
	@rm -f $@
	$(Q)ar rcs $@ $(filter %.o,$^)

$(FUZZ)/syscalls: $(call fuzz_objects,$(FUZZED_SYSCALLS))
$(FUZZ)/parse_snapshot: $(call fuzz_objects,$(FUZZED_PARSER))
$(FUZZ)/control: $(call fuzz_objects,$(FUZZED_CONTROL))
$(FUZZ)/desk: $(call fuzz_objects,$(FUZZED_DESK))
$(FUZZ_PROGRAMS): $(FUZZ)/libmonitor.a $(RUNTIME_OBJECTS) $(ABSL_LIBS)
	$(if $(V),,@echo "  LINK $@")
	$(Q)$(CLANGXX) $(FUZZ_FLAGS) -fsanitize=fuzzer $(LDFLAGS) $(filter %.o,$^) \
	  $(FUZZ)/libmonitor.a $(LIBS) -o $@

# ---- Checks ----------------------------------------------------------------------------------------

FORMATTED := $(sort $(wildcard km/*.cc $(foreach d,km/* include/* runtime runtime/* payloads payloads/* \
  tools/* tests/unit tests/unit/* tests/guest tests/snapshot tests/bench tests/programs tests/programs/* \
  tests/cli tests/fuzz, \
  $(d)/*.h $(d)/*.cc $(d)/*.c)))
# With those of the fuzz targets, which are built last of all: what no longer fits is seen here.
CLANG_STAMPS := $(patsubst %,$(BUILD)/check/%.clang,$(ALL_SOURCES) $(FUZZED_SOURCES))
TIDY_STAMPS := $(PROGRAM_SOURCES:%=$(BUILD)/check/%.tidy)

.PHONY: check check-format check-layers check-clang check-tidy check-syscalls format
check: check-format check-layers check-clang check-tidy check-syscalls check-state all unit
	@echo "make check: all is well"

check-format:
	$(if $(FORMATTED),$(Q)clang-format --dry-run -Werror $(FORMATTED))

check-layers:
	$(Q)tools/check-layers

check-clang: $(CLANG_STAMPS)
check-tidy: $(TIDY_STAMPS)

# clang only parses (g++ builds): its warnings and its proof that locks are held.
$(BUILD)/check/%.clang: %
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CLANG $<")
	$(Q)$(CLANGXX) $(COMMON_FLAGS) -Wthread-safety -fsyntax-only -MMD -MP -MF $@.d -MT $@ $<
	@touch $@

# After clang's parse, whose dependencies it shares.
$(BUILD)/check/%.tidy: $(BUILD)/check/%.clang .clang-tidy
	$(if $(V),,@echo "  TIDY $*")
	$(Q)clang-tidy --quiet $* -- $(COMMON_FLAGS) 2>$@.log || { cat $@.log; false; }
	@touch $@

# docs/syscalls.md comes from the table; `make docs` writes it.
check-syscalls: $(PROGRAMS)
	$(Q)[ ! -e docs/syscalls.md ] || $(BUILD)/km --print-syscalls | diff -u docs/syscalls.md - || \
	  { echo "docs/syscalls.md is out of date: run make docs"; false; }

# docs/state.md comes from what the guest programs say: `make state` runs them and writes it.
.PHONY: check-state state
check-state:
	$(Q)tests/snapshot/state.py check

state: all
	$(Q)mkdir -p $(BUILD)/test-logs
	$(Q)BUILD=$(BUILD) tests/guest/run $$(tests/snapshot/state.py programs) >$(BUILD)/test-logs/state.log || true
	$(Q)grep -v '^ok' $(BUILD)/test-logs/state.log || true
	$(Q)tests/snapshot/state.py write $(BUILD)/test-logs/state.log

.PHONY: docs
docs: $(BUILD)/km
	$(Q)$(BUILD)/km --print-syscalls >docs/syscalls.md

format:
	$(if $(FORMATTED),$(Q)clang-format -i $(FORMATTED))

# ---- The rest --------------------------------------------------------------------------------------

.PHONY: install clean help
DEST = $(DESTDIR)$(PREFIX)
INSTALLED_PROGRAMS = $(PROGRAMS) $(wildcard $(BUILD)/km-cc)
MAN_PAGES := $(wildcard docs/man/*.[1-8])

install: all
	install -d $(DEST)/bin $(DEST)/lib $(DEST)/include/km
	install -m 755 $(INSTALLED_PROGRAMS) $(DEST)/bin
	install -m 644 $(wildcard include/km/*.h) $(DEST)/include/km
	$(foreach f,$(wildcard $(BUILD)/libkm.a),install -m 644 $(f) $(DEST)/lib)
	install -D -m 644 tools/completion/kmctl $(DEST)/share/bash-completion/completions/kmctl
	for page in $(MAN_PAGES); do \
	  install -D -m 644 $$page $(DEST)/share/man/man$${page##*.}/$${page##*/} || exit; done
# The kernel's list is that of this machine, and names a path of it.
ifdef BINFMT
	$(if $(DESTDIR),$(error BINFMT registers km with this machine: not with DESTDIR))
	$(PREFIX)/bin/kmctl binfmt --register
endif

clean:
	rm -rf build build-sanitize $(BUILD)

help:
	@echo "make                build/km, build/kmctl and the guest library"
	@echo "make check          formatting, layers, g++ and clang++ without a warning, clang-tidy"
	@echo "make test           all tests; SANITIZE=address,undefined for the unit tests only"
	@echo "make test-programs  real programs, compared with their native output"
	@echo "make fuzz           a minute each of fuzzing system calls, the snapshot parser, the control socket"
	@echo "make bench          the figures of docs/performance.md"
	@echo "make demo           a python3 snapshotted and resumed"
	@echo "make docs           docs/syscalls.md, from the table"
	@echo "make state          docs/state.md, from a run of the guest programs that snapshot themselves"
	@echo "make format         clang-format on everything"
	@echo "make install        PREFIX=/usr/local DESTDIR= BINFMT=1 (snapshots run by themselves)"
	@echo "make clean"

-include $(patsubst %.o,%.d,$(call objects,$(ALL_SOURCES)))
-include $(CLANG_STAMPS:%=%.d)
-include $(patsubst %.o,%.d,$(call fuzz_objects,$(FUZZED_MONITOR) $(FUZZED_SOURCES)))
