# Moonpool. `make run` serves the hello example, `make test` runs the whole suite,
# `make fuzz` looks for what the suite does not know.
#
#   build/moonpool              the program
#   build/lib/moonpool/core.so  the same objects as a module for stock lua5.4
#   build/lib/native/*.so       bindings that only the specs load (spec/native)
#   build/bench/...             programs of the benchmark (scripts/bench)
#   build/asan/...              all of it again under AddressSanitizer and UBSan
#   build/release/...           and again, for `make install` and `make bench`: see below
#   build/lua-VERSION/          the source of Lua, for those
#   build/fuzz/http             the HTTP parser for libFuzzer (spec/fuzz)

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
CLANG ?= clang
SECONDS ?= 60
BUILD := build
FROM ?= $(BUILD)/release

warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
CFLAGS ?= -O3 -g
lua_cflags = $(shell pkg-config --cflags lua5.4)
# All of Lua is inside of the program, for C modules too, and calls need no jump table: 10 %
# of a request's user time, most of it because less code does not fit into the cache.
lua_libs = -Wl,--whole-archive -l:liblua5.4.a -Wl,--no-whole-archive -lm -ldl
flags = -std=gnu11 -D_GNU_SOURCE -fPIC -fno-plt -fno-common $(warnings) -DMOONPOOL_VERSION='"$(VERSION)"' \
	-Iruntime $(lua_cflags) $(CFLAGS) -MMD -MP
# 8 % of a request's user time; fat objects, so that what specs load links without it. What
# gcc makes of memset, rep stos, takes longer to begin than the library's to end.
lto := -flto=auto -ffat-lto-objects -fno-semantic-interposition -fno-builtin-memset
sanitize := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

sources := $(wildcard runtime/*.c)
natives := $(wildcard spec/native/*.c)
benches := $(wildcard scripts/bench/*.c)
lua_programs := $(wildcard $(addprefix scripts/bench/,run count compare publish test_library))
formatted = runtime/*.[ch] $(natives) $(benches) spec/fuzz/*.c

all: run-setup $(BUILD)/moonpool $(BUILD)/lib/moonpool/core.so

# Only in the module for stock Lua; there, what lua_fault.c has come between is its.
comma := ,
module_only := $(addprefix runtime/,lua_fault.c lua_process.c lua_coverage.c)
wrap := $(addprefix -Wl$(comma)--wrap=,recv recvmsg send sendmsg sendfile close)

# A release has Lua compiled like the rest, from the source that Debian has of the library
# that is installed: a tenth of a request's user time. Without that, it is the library.
lua_source := $(BUILD)/lua-$(shell dpkg-query -W -f '$${Version}' liblua5.4-dev 2>/dev/null)
lua_names := $(filter-out lua luac,$(basename $(notdir $(wildcard $(lua_source)/src/*.c))))
lua_flags := -DLUA_USE_LINUX -DLUA_COMPAT_5_3 -w
$(lua_source):
	@scripts/setup release
	@scripts/lua_source $@ || { echo "The release takes Lua from its library."; mkdir -p $@; }

# One build of everything: $(1) its directory, $(2) its extra flags, $(3) Lua's objects, or
# none for the library.
define variant
$(1)/obj/%.o: runtime/%.c
	@mkdir -p $$(@D)
	@echo "  cc $$@"
	@$$(CC) $$(flags) $(2) -c -o $$@ $$<
$(1)/obj/%.o: $(lua_source)/src/%.c
	@mkdir -p $$(@D)
	@echo "  cc $$@"
	@$$(CC) $$(flags) $(2) $$(lua_flags) -c -o $$@ $$<
$(1)/moonpool: $(patsubst runtime/%.c,$(1)/obj/%.o,$(filter-out $(module_only),$(sources))) $(3)
	@echo "  ld $$@"
	@$$(CC) $$(CFLAGS) $(2) $$(LDFLAGS) -rdynamic -o $$@ $$^ $(if $(3),-lm -ldl,$$(lua_libs)) -lev -lz
# The module takes Lua from the interpreter that loads it.
$(1)/lib/moonpool/core.so: $(patsubst runtime/%.c,$(1)/obj/%.o,$(filter-out runtime/main.c,$(sources)))
	@mkdir -p $$(@D)
	@echo "  ld $$@"
	@$$(CC) -shared $$(CFLAGS) $(2) $$(LDFLAGS) $(wrap) -o $$@ $$^ -lev -lz
$(1)/lib/native/%.so: spec/native/%.c $(patsubst runtime/%.c,$(1)/obj/%.o,$(filter-out runtime/main.c runtime/lua_fault.c,$(sources)))
	@mkdir -p $$(@D)
	@echo "  ld $$@"
	@$$(CC) $$(flags) $(2) -fno-lto -shared $$(LDFLAGS) -o $$@ $$(filter %.c %.o,$$^) -lev -lz
$(1)/bench/%: scripts/bench/%.c
	@mkdir -p $$(@D)
	@echo "  ld $$@"
	@$$(CC) $$(flags) $(2) -fno-lto $$(LDFLAGS) -o $$@ $$<
$(1): $(1)/moonpool $(1)/lib/moonpool/core.so $(patsubst spec/native/%.c,$(1)/lib/native/%.so,$(natives)) \
	$(patsubst scripts/bench/%.c,$(1)/bench/%,$(benches))
endef
$(eval $(call variant,$(BUILD),$(lto)))
$(eval $(call variant,$(BUILD)/asan,$(sanitize)))

# For a release the compiler is told what the program does most, by one that has counted
# it (scripts/train): a sixth of a request's user time. All of it is compiled twice, under
# one name (-dumpdir), as some counts are of places that have no other.
training := $(BUILD)/training
released := $(BUILD)/release
$(eval $(call variant,$(training),$(lto) -fprofile-generate -dumpdir $(released)/obj/,$(lua_names:%=$(training)/obj/%.o)))
$(eval $(call variant,$(released),$(lto) -fprofile-use -fprofile-partial-training -w,$(lua_names:%=$(released)/obj/%.o)))
$(patsubst runtime/%.c,$(training)/obj/%.o,$(sources)): $(wildcard runtime/*.h)
$(training)/done: $(training)/moonpool $(BUILD)/bench/load scripts/train
	@mkdir -p $(released)/obj
	@rm -f $(released)/obj/*.gcda
	scripts/train $(training)/moonpool $(BUILD)/bench/load
	@touch $@
$(patsubst runtime/%.c,$(released)/obj/%.o,$(sources)) $(lua_names:%=$(released)/obj/%.o): $(training)/done
release: run-setup $(lua_source)
	@$(MAKE) --no-print-directory -j$$(nproc) $(released)/moonpool $(released)/lib/moonpool/core.so

$(BUILD)/fuzz/http: spec/fuzz/http.c $(addprefix runtime/,http.c buf.c alloc.c) $(wildcard runtime/*.h)
	@mkdir -p $(@D)
	@echo "  ld $@"
	@$(CLANG) $(flags) $(sanitize) -fsanitize=fuzzer -o $@ $(filter %.c,$^)

run: all
	scripts/run

# FUZZ=INPUTS: fuzzes with so many too, always the same, and counts that in.
test: test-setup $(if $(FUZZ),fuzz-setup)
	@$(MAKE) --no-print-directory -j$$(nproc) $(BUILD) $(BUILD)/asan $(if $(FUZZ),$(BUILD)/fuzz/http)
	FUZZ=$(FUZZ) scripts/test $(BUILD) $(BUILD)/asan

asan: test-setup
	@$(MAKE) --no-print-directory -j$$(nproc) $(BUILD)/asan
	scripts/test $(BUILD)/asan

# INPUT=FILE: only that again.
fuzz: fuzz-setup
	@$(MAKE) --no-print-directory -s $(BUILD)/fuzz/http
	scripts/fuzz $(or $(INPUT),$(SECONDS))

lint: lint-setup
	luacheck -q . $(lua_programs)
	clang-format --dry-run --Werror $(formatted)

format: lint-setup
	clang-format -i $(formatted)

# What is measured is what is installed. CASES="hello connect": these; QUICK=1: a minute.
bench: bench-setup $(lua_source)
	@$(MAKE) --no-print-directory -j$$(nproc) $(released)
	MOONPOOL_BUILD=$(BUILD)/release scripts/bench/run $(if $(QUICK),-q) $(CASES)

# The chat in two tabs, while its workers are killed; pictures are in build/.
browser: browser-setup
	@$(MAKE) --no-print-directory -j$$(nproc) $(BUILD)/moonpool
	NODE_PATH=/usr/share/nodejs node scripts/browser/chat.js

%-setup:
	@scripts/setup $*

install: $(if $(filter $(released),$(FROM)),release,run-setup $(FROM)/moonpool $(FROM)/lib/moonpool/core.so)
	install -D -m 755 $(FROM)/moonpool $(DESTDIR)$(PREFIX)/bin/moonpool
	install -D -m 755 $(FROM)/lib/moonpool/core.so $(DESTDIR)$(PREFIX)/lib/lua/5.4/moonpool/core.so
	install -d $(DESTDIR)$(PREFIX)/share/lua/5.4/moonpool/middleware
	install -m 644 lua/moonpool/*.lua $(DESTDIR)$(PREFIX)/share/lua/5.4/moonpool
	install -m 644 lua/moonpool/middleware/*.lua \
		$(DESTDIR)$(PREFIX)/share/lua/5.4/moonpool/middleware
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 644 scripts/systemd/moonpool.* $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed -i 's|/usr/local/|$(PREFIX)/|' $(DESTDIR)$(PREFIX)/lib/systemd/system/moonpool.service

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/moonpool
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/moonpool.,service socket)
	rm -rf $(DESTDIR)$(PREFIX)/lib/lua/5.4/moonpool $(DESTDIR)$(PREFIX)/share/lua/5.4/moonpool

clean:
	rm -rf $(BUILD)

.PHONY: all run test asan fuzz browser bench lint format release install uninstall clean \
	$(BUILD) $(BUILD)/asan $(released)
-include $(wildcard $(BUILD)/obj/*.d $(BUILD)/asan/obj/*.d $(BUILD)/lib/native/*.d $(BUILD)/asan/lib/native/*.d)
