//! Ours against Lua's own: two states, one as Lua made it, answer the same.

use mlua::{Function, Lua, StdLib};

use super::replace;
use crate::watched;

/// Shows what a call answers, or its error.
const SHOW: &str = "
local function show(...)
    local all = {}
    for at = 1, select('#', ...) do
        local value = select(at, ...)
        all[at] = type(value) == 'table' and 'a table' or type(value) .. ' ' .. tostring(value)
    end
    return table.concat(all, ', ')
end
";

fn raw() -> Lua {
    Lua::new_with(StdLib::STRING | StdLib::TABLE, mlua::LuaOptions::new()).unwrap()
}

fn ours() -> Lua {
    let lua = raw();
    let look = lua.create_function(|_, _: bool| Ok(false)).unwrap();
    replace(&lua, &look).unwrap();
    watched::replace(&lua, &look, &look).unwrap();
    let turn = lua.load("return").into_function().unwrap();
    let coroutine: mlua::Table = lua.globals().raw_get("coroutine").unwrap();
    let wrap = watched::wrapping(&lua, coroutine.raw_get("wrap").unwrap(), turn).unwrap();
    coroutine.raw_set("wrap", wrap).unwrap();
    lua
}

/// Numbers by chance, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }

    fn of(&mut self, tokens: &[&[u8]], most: usize) -> Vec<u8> {
        let count = self.below(most + 1);
        (0..count).flat_map(|_| tokens[self.below(tokens.len())].to_vec()).collect()
    }
}

#[rustfmt::skip]
const PATTERN: &[&[u8]] = &[
    b".", b"a", b"b", b"x", b"1", b" ", b"\xff", b"\0", b"%a", b"%c", b"%d", b"%l", b"%p", b"%s", b"%u", b"%w", b"%x", b"%z",
    b"%A", b"%W", b"%S", b"%Z", b"%%", b"%.", b"%-", b"[ab]", b"[^a]", b"[a-c]", b"[^%w_]", b"[]]", b"[^]x]", b"[a-]", b"[%a-z]",
    b"[+-%%]", b"[\x80-\xff]", b"%f[%w]", b"%f[^%w]", b"%f[%z]", b"%b()", b"%bab", b"(", b")", b"(", b")", b"()", b"%1", b"%2", b"%0",
    b"*", b"+", b"-", b"?", b"*", b"+", b"-", b"?", b"$", b"^", b"%", b"[", b"]", b"[a-", b"[%", b"%f", b"%b", b"%b(", b"a*", b"(a)",
];
const TEXT: &[&[u8]] = &[
    b"a", b"b", b"ab", b"(", b")", b"x", b"A", b"1", b" ", b"_", b"-", b"%", b"]", b"\0", b"\xff",
    b"\t", b"\x0b", b"aa",
];
const REPLACEMENT: &[&[u8]] = &[b"%0", b"%1", b"%2", b"%9", b"%%", b"%", b"%x", b"y", b"\0"];

#[test]
fn any_pattern_finds_what_luas_own_finds() {
    let script = format!(
        "{SHOW}
local tabled = setmetatable({{a = 1, b = false, ['('] = 'open'}}, {{__index = function(_, key)
    if key == 'x' then return {{}} end
    if key == 'aa' then error('no aa') end
end}})
local function called(...)
    if select('#', ...) > 2 then return 5 end
    if (...) == '-' then error('no minus') end
    return (...) ~= 'b' and '<' .. tostring((...)) .. '>' or nil
end
return function(text, pattern, init, plain, replacement, most)
    local all = {{
        show(pcall(function() return string.find(text, pattern, init, plain) end)),
        show(pcall(function() return string.match(text, pattern, init) end)),
        show(pcall(function() return string.gsub(text, pattern, replacement) end)),
        show(pcall(function() return string.gsub(text, pattern, replacement, most) end)),
        show(pcall(function() return string.gsub(text, pattern, tabled) end)),
        show(pcall(function() return string.gsub(text, pattern, called, most) end)),
    }}
    pcall(function()
        local next = string.gmatch(text, pattern)
        for _ = 1, 16 do
            all[#all + 1] = show(pcall(function() return next() end))
        end
    end)
    return table.concat(all, '\\n')
end"
    );
    let states = [raw(), ours()];
    let [theirs, ours] =
        states.each_ref().map(|lua| -> Function { lua.load(&script).eval().unwrap() });
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for number in 0..30_000 {
        let (text, pattern) = (random.of(TEXT, 9), random.of(PATTERN, 6));
        let replacement = random.of(REPLACEMENT, 3);
        let init = random.below(14) as i64 - 7;
        let (plain, most) = (random.below(8) == 0, random.below(5) as i64 - 1);
        let answer = |lua: &Lua, function: &Function| {
            let string = |bytes: &[u8]| lua.create_string(bytes).unwrap();
            let arguments =
                (string(&text), string(&pattern), init, plain, string(&replacement), most);
            let answer: mlua::String = function.call(arguments).unwrap();
            answer.as_bytes().escape_ascii().to_string()
        };
        assert_eq!(
            answer(&states[1], &ours),
            answer(&states[0], &theirs),
            "{number}: pattern {}, text {}, from {init}",
            pattern.escape_ascii(),
            text.escape_ascii()
        );
    }
}

/// Right and wrong calls of what is ours.
#[rustfmt::skip]
const CALLS: &[&str] = &[
    "string.find()",
    "string.find('a')",
    "string.find({}, 'a')",
    "string.find('a', 'a', 'x')",
    "('a'):find()",
    "('abc'):find('b', -2, true)",
    "string.match('2026-11-30', '(%d+)-(%d+)-(%d+)')",
    "string.match(nil, 'a')",
    "string.gmatch('a')",
    "string.gfind == string.gmatch",
    "string.gsub('a', 'a')",
    "string.gsub('a', 'a', true)",
    "string.gsub('a', 'a', 'b', 'c')",
    "string.gsub(12345, 3, 9)",
    "string.gsub('abc', '%w', '%0%0', 2)",
    "string.gsub('abc def', '%f[%w]%w+', string.upper)",
    "string.gsub('abc', 'b', type)",
    "string.gsub(('a'):rep(20000), 'a', 'bcd')",
    "string.gsub(('a'):rep(20000), 'a', function(a) return a .. a end)",
    "string.rep()",
    "string.rep('x')",
    "string.rep('x', -1)",
    "string.rep('', 5)",
    "string.rep('ab', 3.7)",
    "string.rep('abc', 1000)",
    "string.rep(('abc'):rep(100), 7)",
    "string.rep('x', 512)",
    "unpack()",
    "unpack(5)",
    "unpack({1, 2, 3})",
    "unpack({1, 2, 3}, 2)",
    "unpack({1, 2, 3}, -1, 1)",
    "unpack({1, 2, 3}, 3, 2)",
    "unpack({}, 1, 'x')",
    "unpack({}, 2147483647, -2147483648)",
    "unpack({}, 1, 8000)",
    "select('#', unpack({}, 1, 7900))",
    "string.upper()",
    "string.upper(5)",
    "string.upper(('x'):rep(20000)):sub(-2)",
    "string.format('%d')",
    "table.concat(5)",
    "table.concat({1, {}})",
    "table.insert(5, 1)",
    "table.insert({})",
    "table.insert()",
    "table.insert({}, 1, 2, 3)",
    "table.insert({}, 'x', 2)",
    "(function() local t = {1, 2} table.insert(t, 'x') return #t, t[3] end)()",
    "(function() local t = {1, 2} table.insert(t, 1, 'x') return #t, unpack(t, 1, 4) end)()",
    "(function() local t = {1, 2} table.insert(t, -2, 'x') return unpack(t, -3, 4) end)()",
    "(function() local t = {1, 2} table.insert(t, 6, 'x') return unpack(t, 1, 7) end)()",
    "(function() local t = {} for i = 1, 25000 do t[i] = i end table.insert(t, 2, 'x') return #t, t[1], t[2], t[3], t[25001] end)()",
    "table.sort({3, 1, 'x'})",
    "table.remove({1, 2}, 1)",
    "collectgarbage('x')",
    "type(collectgarbage('count'))",
    "coroutine.wrap()",
    "coroutine.wrap(print)",
    "coroutine.wrap(function(...) return coroutine.yield(...) end)(1, 2)",
    "coroutine.wrap(function() error('x') end)()",
    "coroutine.wrap(function() error({}) end)()",
    "(function() local f = coroutine.wrap(function() return 1 end) f() return f() end)()",
    "(function() return coroutine.wrap(function() error('x') end)() end)()",
];

#[test]
fn what_is_called_wrongly_is_told_in_luas_words() {
    let (theirs, ours) = (raw(), ours());
    for call in CALLS {
        let script = format!("{SHOW} return show(pcall(function() return {call} end))");
        let answer = |lua: &Lua| lua.load(&script).set_name("=script").eval::<String>().unwrap();
        assert_eq!(answer(&ours), answer(&theirs), "{call}");
    }
}
