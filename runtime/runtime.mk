# Code that runs in the guest: the runtime pages (embedded in the monitor), libkm.a, km-cc, payloads.
# Included by the top Makefile. RUNTIME_OBJECTS is linked into build/km and the unit tests; the flags
# are this file's own, because none of this may be instrumented by a sanitizer.

R := $(BUILD)/runtime
PAYLOADS := $(addprefix $(BUILD)/payloads/,hello hello_snapshot snapshot)

RUNTIME_OBJECTS := $(R)/blobs.o
RUNTIME_PRODUCTS := $(BUILD)/libkm.a $(BUILD)/km-cc $(PAYLOADS)

RUNTIME_ASFLAGS := -Iinclude -Wall -Wextra -Werror -MMD -MP
RUNTIME_CFLAGS := -std=gnu11 -O2 -g -fPIC -Iinclude -Wall -Wextra -Wshadow -Werror -MMD -MP \
  -ffreestanding -fno-stack-protector -fcf-protection=none -fno-builtin -U_FORTIFY_SOURCE
# The vDSO is handed out at its entry points, not by a linker; no jump tables, so no data of its own.
VDSO_CFLAGS := $(RUNTIME_CFLAGS) -g0 -fasynchronous-unwind-tables -fno-jump-tables \
  -fvisibility=default
VDSO_LDFLAGS := -shared -nostdlib -Wl,--hash-style=both \
  -Wl,--eh-frame-hdr -Wl,--build-id=sha1 -Wl,-Bsymbolic -Wl,-z,max-page-size=4096 \
  -Wl,-z,noexecstack -Wl,-z,norelro -Wl,--no-undefined -Wl,--fatal-warnings

$(R)/stub.o $(R)/gates.o: $(R)/%.o: runtime/%.S
	@mkdir -p $(@D)
	$(Q)$(CC) $(RUNTIME_ASFLAGS) -c $< -o $@

$(R)/stub.bin $(R)/gates.bin: $(R)/%.bin: $(R)/%.o
	$(Q)objcopy -O binary -j .text $< $@

$(R)/vdso.o: runtime/vdso.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(VDSO_CFLAGS) -c $< -o $@

$(R)/vdso.lds: runtime/vdso.lds
	@mkdir -p $(@D)
	$(Q)$(CC) -E -P -x c -Iinclude -MMD -MP -MF $@.d -MT $@ $< -o $@

$(R)/vdso.so: $(R)/vdso.o $(R)/vdso.lds runtime/runtime.mk
	$(Q)$(CC) $(VDSO_LDFLAGS) -Wl,-T,$(R)/vdso.lds $< -o $@
	$(Q)strip --strip-unneeded $@

$(R)/blobs.o: runtime/blobs.S $(R)/stub.bin $(R)/gates.bin $(R)/vdso.so
	$(Q)$(CC) $(RUNTIME_ASFLAGS) -Wa,-I,$(R) -c $< -o $@

$(R)/libkm.o: runtime/libkm.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(RUNTIME_CFLAGS) -c $< -o $@

$(BUILD)/libkm.a: $(R)/libkm.o
	$(Q)rm -f $@
	$(Q)ar rcs $@ $<

# The guest library has a unit test; km itself is not linked with it.
$(BUILD)/unit_tests: $(R)/libkm.o

# The wrapper finds include and libkm.a beside itself, in the build tree as when installed.
$(BUILD)/km-cc: tools/km-cc $(BUILD)/libkm.a
	$(Q)ln -sfn $(abspath include) $(BUILD)/include
	$(Q)install -m 755 $< $@

PAYLOAD_FLAGS := -O2 -g -Wall -Wextra -Wshadow -Werror

$(BUILD)/payloads/%: payloads/%.c $(BUILD)/km-cc $(wildcard include/km/*.h)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC   $<")
	$(Q)KM_CC="$(CC)" $(BUILD)/km-cc $(PAYLOAD_FLAGS) $< -o $@

$(BUILD)/payloads/%: payloads/%.cc $(BUILD)/km-cc $(wildcard include/km/*.h)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX  $<")
	$(Q)KM_CC="$(CXX)" $(BUILD)/km-cc $(PAYLOAD_FLAGS) $< -o $@

-include $(wildcard $(R)/*.d)
