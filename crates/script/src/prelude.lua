-- What scripts see of Lua. Plain Lua 5.1 has no read-only tables, which Redis' has: each library
-- is shown as an empty table whose metatable looks it up and refuses writes.
local raw, names, where, look, wrapping, lack = ...
local error, type, pairs, rawget = error, type, pairs, rawget
local pcall, xpcall, resume, wrap = pcall, xpcall, coroutine.resume, coroutine.wrap
local loadstring, setfenv, setmetatable, rawset = loadstring, setfenv, setmetatable, rawset
local select = select
local sub, byte, concat = string.sub, string.byte, table.concat
local null = raw.cjson.null

local shown = {}

local function refuse()
    error('Attempt to modify a readonly table', 2)
end

local function show(table, missing)
    local proxy = {}
    shown[proxy] = true
    setmetatable(proxy, { __index = missing or table, __newindex = refuse, __metatable = false })
    return proxy
end

-- A script that goes on without memory might have gone on otherwise where there is more.
local function note_lack(err)
    if type(err) == 'string' and sub(err, -17) == 'not enough memory' then
        lack()
    end
end

-- The end of a run is an error that no script catches: an object of the host's. Lua may have put
-- another error in its place, e.g. where the stack of C ends before that of a handler, so what was
-- caught counts only if the run goes on.
local function passed(ok, value, ...)
    if not ok then
        note_lack(value)
        if type(value) == 'userdata' and value ~= null then
            error(value, 0)
        end
        look(true)
        if type(value) == 'table' and type(rawget(value, 'err')) == 'string' then
            return false, value.err
        end
    end
    return ok, value, ...
end

local function uncaught(ok, value, ...)
    if not ok then
        note_lack(value)
        if type(value) == 'userdata' and value ~= null then
            error(value, 0)
        end
        look(true)
    end
    return ok, value, ...
end

local safe = {}
for name in pairs(names) do
    safe[name] = _G[name]
end

function safe.pcall(...)
    return passed(pcall(...))
end

-- A handler is not asked about the end of a run, nor about what Lua made of it: it could answer
-- another error, or never. Where a look has raised the end, nobody looks while it runs.
function safe.xpcall(called, ...)
    if select('#', ...) == 0 then
        error("bad argument #2 to 'xpcall' (value expected)", 2)
    end
    local handler = ...
    return uncaught(xpcall(called, function(err)
        note_lack(err)
        if type(err) == 'userdata' and err ~= null then
            return err
        end
        if look(false) then
            return nil
        end
        return handler(err)
    end))
end

function safe.setmetatable(table, meta)
    if table ~= nil and shown[table] then
        error('Attempt to modify a readonly table', 0)
    end
    return setmetatable(table, meta)
end

function safe.rawset(table, key, value)
    if table ~= nil and shown[table] then
        error('Attempt to modify a readonly table', 0)
    end
    return rawset(table, key, value)
end

local function compile(environment, text, name)
    if byte(text) == 27 then
        return nil, 'compiled code is not accepted'
    end
    local loaded, message = loadstring(text, name)
    if loaded then
        setfenv(loaded, environment())
    else
        note_lack(message)
    end
    return loaded, message
end

local function pieces(next)
    local all = {}
    while true do
        local piece = next()
        if piece == nil or piece == '' then
            return concat(all)
        end
        if type(piece) ~= 'string' then
            error('reader function must return a string', 0)
        end
        all[#all + 1] = piece
    end
end

-- What both kinds of scripts see, and what one of them sees besides.
local function environment(redis, own)
    local global
    local function it()
        return global
    end
    own.loadstring = function(text, name)
        if type(text) == 'number' then
            text = text .. ''
        elseif type(text) ~= 'string' then
            error("bad argument #1 to 'loadstring' (string expected, got " .. type(text) .. ')', 2)
        end
        return compile(it, text, name or text)
    end
    own.load = function(next, name)
        if type(next) ~= 'function' then
            error("bad argument #1 to 'load' (function expected, got " .. type(next) .. ')', 2)
        end
        local ok, text = passed(pcall(pieces, next))
        if not ok then
            return nil, text
        end
        return compile(it, text, name or '=(load)')
    end
    own.redis = show(redis)
    setmetatable(own, { __index = safe })
    global = show(own, function(_, name)
        local value = own[name]
        if value == nil then
            local text = type(name) == 'string' and name or tostring(name)
            error("Script attempted to access nonexistent global variable '" .. text .. "'", 2)
        end
        return value
    end)
    own._G = global
    return global, own
end

local coroutines = {}
for name, value in pairs(coroutine) do
    coroutines[name] = value
end
-- Each coroutine counts its own instructions: where many take short turns, none would be looked at.
local turns = 0
local function turn()
    turns = turns + 1
    if turns >= 16 then
        turns = 0
        look(true)
    end
end
function coroutines.resume(...)
    turn()
    return uncaught(resume(...))
end
coroutines.wrap = wrapping(wrap, turn)

safe.string, safe.math, safe.table = show(string), show(math), show(table)
safe.coroutine = show(coroutines)
for name, library in pairs(raw) do
    safe[name] = show(library)
end
-- Also the metatable of strings leads to the library alone.
getmetatable('').__index = safe.string
getmetatable('').__metatable = false

-- Where an error was raised: the function of the script that is nearest.
local function located(err)
    if type(err) == 'userdata' and err ~= null then
        return err
    end
    if type(err) ~= 'table' then
        err = { err = 'ERR ' .. tostring(err) }
    end
    local source, line = where()
    if source then
        err.source, err.line = source, line
    end
    return err
end

return environment, located
