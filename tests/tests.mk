# tests.mk - the tests that need no network: unit tests, segment dialogues, simulator.
# Included by GNUmakefile. `make check-core` runs them all; `make sim SEED= N=` the simulator alone.

SEED ?= 1
N ?= 5000

TEST_CFLAGS := -Wno-override-init
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))
UNIT_NETIO := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/netio_*.c))
SEGMENT_OBJ := $(call obj,$(wildcard tests/segment/*.c))
SIM_OBJ := $(call obj,$(wildcard tests/sim/*.c)) $(BUILD)/tests/segment/image.o
TESTCX_OBJ := $(call obj,$(wildcard tests/unit/testcx.c))

$(BUILD)/tests/%.o: ALL_CFLAGS += $(TEST_CFLAGS)

$(UNIT_TESTS): $(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(TESTCX_OBJ) $(BUILD)/libcore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ -lcunit
$(UNIT_NETIO): $(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(TESTCX_OBJ) $(BUILD)/libnetio.a $(BUILD)/libcore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ -lcunit -ldl -pthread
$(BUILD)/tests/segment/segment: $(SEGMENT_OBJ) $(BUILD)/libcore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ -lcunit
$(BUILD)/tests/sim/sim: $(SIM_OBJ) $(BUILD)/libcore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^

# One line a program: its name and what it said last, all of it when it failed.
check-core: $(UNIT_TESTS) $(UNIT_NETIO) $(BUILD)/tests/segment/segment $(BUILD)/tests/sim/sim ## only the tests of core: unit, segment dialogues, simulator
	@failed=0; \
	for t in $(UNIT_TESTS) $(UNIT_NETIO) $(BUILD)/tests/segment/segment; do \
		if timeout 300 $$t >$$t.log 2>&1; then printf '  ok      %s\n' "$${t#$(BUILD)/tests/}"; \
		else printf '  FAILED  %s\n' "$${t#$(BUILD)/tests/}"; cat $$t.log; failed=1; fi; \
	done; \
	$(BUILD)/tests/sim/sim --seed $(SEED) --connections $(N) || failed=1; \
	sh scripts/requirements.sh || failed=1; \
	exit $$failed

sim: $(BUILD)/tests/sim/sim ## connections in virtual time; SEED= N=
	$(BUILD)/tests/sim/sim --seed $(SEED) --connections $(N)

# One connection of 4.7 GB: the sequence numbers wrap on the way.
sim-long: $(BUILD)/tests/sim/sim ## one connection whose sequence numbers wrap
	$(BUILD)/tests/sim/sim --seed $(SEED) --long 4700000000

.PHONY: check-core sim sim-long
