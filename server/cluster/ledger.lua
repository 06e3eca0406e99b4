-- The ledger of a cluster (docs/decisions/0014): who holds which seat. It runs inside Redis, one batch after the other,
-- so nothing happens between two of its lines. It answers nobody: what it decides goes into the inboxes of the nodes.
--
-- KEYS[1]  the prefix of all keys
-- ARGV     version of Redis' run, node, number of the batch, "1" if it is the node's first, lease in ms, what the node
--          has read of its inbox (entries, octets), what may wait there (entries, octets); then the operations, each a
--          word and its arguments
-- Returns  {"ok", nodes} or {"forgotten", 0}: the node is not in the ledger, and none of the batch was done
--
-- clock         hash: run; wall, ms of the last batch; at, ms that the ledger has worked; wards, a counter
-- nodes         set of names. A name is TOKEN.N: the N-th life of one process
-- node:NODE     hash: done, number of its last batch; beat, when that was by the clock; seq and octets, what was put into
--               its inbox; read and heard, what it has read of them
-- in:NODE       stream, its inbox. The id of an entry is its number, so that none is lost unnoticed
-- of:NODE       set of "ROOM ID", the seats it holds
-- dying         set of nodes that were forgotten and whose seats are not all free yet
-- seats:ROOM    hash: id to "NODE TICKET KEY NODE TICKET": who holds it, and who held it and has not handed over yet
-- count:ROOM    hash: node to the number of its seats there: who is told what happens in the room
--
-- A room is written with a slash before its name, a key that is none and a node that is none as "-".

local prefix = KEYS[1]
local run, me, number, entering = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local lease, read, heard = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local most_entries, most_octets = tonumber(ARGV[8]), tonumber(ARGV[9])
local SWEEP = 500 -- seats of dying nodes that one batch frees: some milliseconds
local call = redis.call

local function key(kind, name) return prefix .. kind .. ':' .. name end
local CLOCK, NODES, DYING = prefix .. 'clock', prefix .. 'nodes', prefix .. 'dying'

-- What was written before Redis was restarted is not trusted: it may be old, and its inboxes too. -------------------

local known = call('HGET', CLOCK, 'run')
if known ~= run then
  if not entering then return {'forgotten', 0} end
  for _, node in ipairs(call('SUNION', NODES, DYING)) do
    for _, where in ipairs(call('SMEMBERS', key('of', node))) do
      local room = string.match(where, '^%S+')
      call('DEL', key('seats', room), key('count', room))
    end
    call('DEL', key('of', node), key('in', node), key('node', node))
  end
  call('DEL', NODES, DYING, CLOCK)
  call('HSET', CLOCK, 'run', run)
end

-- The clock stands still while nobody speaks to the ledger: when Redis was away for all, nobody's lease is over. -----

local time = call('TIME')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)
local was = call('HMGET', CLOCK, 'wall', 'at')
local step = math.floor(lease / 5)
local at = (tonumber(was[2]) or 0) + math.max(0, math.min(was[1] and wall - was[1] or 0, step))
call('HSET', CLOCK, 'wall', string.format('%d', wall), 'at', string.format('%d', at))

-- Nodes -------------------------------------------------------------------------------------------------------------

local alive = {} -- name to the time of its last beat

local function forget(node)
  alive[node] = nil
  call('SREM', NODES, node)
  call('SADD', DYING, node)
  call('DEL', key('node', node), key('in', node))
end

local function emit(node, header, text)
  if not alive[node] then return end
  local entry = {'h', header}
  if text then
    call('HINCRBY', key('node', node), 'octets', #text)
    entry = {'h', header, 't', text}
  end
  local seq = call('HINCRBY', key('node', node), 'seq', 1)
  local added = redis.pcall('XADD', key('in', node), seq .. '-0', unpack(entry))
  if type(added) == 'table' and added.err then forget(node) end -- somebody else wrote there; it begins anew
end

local mine = key('node', me)
local done = tonumber(call('HGET', mine, 'done'))
if not done then
  if not entering then return {'forgotten', 0} end
  call('SADD', NODES, me)
  call('HSET', mine, 'done', 0, 'seq', 0, 'octets', 0)
  done = 0
end
call('HSET', mine, 'beat', string.format('%d', at), 'read', read, 'heard', heard)
call('XTRIM', key('in', me), 'MINID', (read + 1) .. '-0')
local nodes = call('SMEMBERS', NODES)
for _, node in ipairs(nodes) do
  local of = call('HMGET', key('node', node), 'beat', 'seq', 'read', 'octets', 'heard')
  alive[node] = tonumber(of[1]) or 0
  -- an inbox that is too full: its node is so far behind that it had better begin anew
  local lags = not of[2] or not of[3] or of[2] - of[3] > most_entries or of[4] - of[5] > most_octets
  if lags or at - alive[node] > lease then forget(node) end
end
if not alive[me] then return {'forgotten', 0} end
if number <= done then return {'ok', #nodes} end -- said again, because its answer was lost
call('HSET', mine, 'done', number)
if done == 0 then emit(me, string.format('entered %d', at)) end

local function silent(node) return at - alive[node] > step end
local function token(node) return string.match(node, '^[^.]+') end

-- Seats -------------------------------------------------------------------------------------------------------------

local function seat(room, id)
  local found = call('HGET', key('seats', room), id)
  if not found then return nil end
  local node, ticket, secret, before = string.match(found, '^(%S+) (%S+) (%S+) (.*)$')
  return {node = node, ticket = ticket, secret = secret, before = before}
end

local function put(room, id, s)
  call('HSET', key('seats', room), id, table.concat({s.node, s.ticket, s.secret, s.before}, ' '))
end

local function take_from(room, id, node) -- returns "1" if that was its last seat in the room
  call('SREM', key('of', node), room .. ' ' .. id)
  if call('HINCRBY', key('count', room), node, -1) > 0 then return '0' end
  call('HDEL', key('count', room), node)
  return '1'
end

local function give_to(room, id, node) -- returns the peers of the room if it is its first seat there
  call('SADD', key('of', node), room .. ' ' .. id)
  if call('HINCRBY', key('count', room), node, 1) > 1 then return nil end
  return table.concat(call('HKEYS', key('seats', room)), ' ')
end

local function vacate(room, id, s)
  call('HDEL', key('seats', room), id)
  local last = take_from(room, id, s.node)
  emit(s.node, table.concat({'gone', room, id, last, s.ticket}, ' '))
  for _, node in ipairs(call('HKEYS', key('count', room))) do
    if node ~= s.node then emit(node, table.concat({'gone', room, id, '0', '-'}, ' ')) end
  end
end

local function sit(room, id, ticket, secret)
  local s = {node = me, ticket = ticket, secret = secret, before = '-'}
  put(room, id, s)
  emit(me, table.concat({'joined', room, id, ticket, '-'}, ' '), give_to(room, id, me))
  for _, node in ipairs(call('HKEYS', key('count', room))) do
    if node ~= me then emit(node, table.concat({'came', room, id}, ' ')) end
  end
end

-- Nobody sees it. The old holder is asked to hand over what waits there, unless it could not.
local function move(room, id, s, node, ticket, ward)
  if s.node == node then
    s.ticket = ticket
    put(room, id, s)
    emit(node, table.concat({'joined', room, id, ticket, '-'}, ' '))
    return
  end
  local source = '-'
  if alive[s.node] and not silent(s.node) then source = s.node end
  emit(s.node, table.concat({'moved', room, id, take_from(room, id, s.node), s.ticket}, ' '))
  s = {node = node, ticket = ticket, secret = s.secret, before = source == '-' and '-' or source .. ' ' .. s.ticket}
  put(room, id, s)
  local header = {'joined', room, id, ticket, source}
  if ward then header = {'ward', room, id, ticket, source, s.secret, ward} end
  emit(node, table.concat(header, ' '), give_to(room, id, node))
end

local function may_say(s, ticket) -- whether who sits there says it: here, or before it moved
  return s and (s.node == me and s.ticket == ticket or s.before == me .. ' ' .. ticket)
end

-- Operations: how many arguments, and what they do --------------------------------------------------------------------

local operations = {
  -- a client asks for a seat; `insist`: for the second time, so whoever was asked had time to answer (rule 3)
  join = {6, function(room, id, ticket, secret, insist, limit)
    local s = seat(room, id)
    if s and s.node == me and s.ticket == ticket then return end
    if s and secret ~= '-' and s.secret == secret then return move(room, id, s, me, ticket) end
    if s and (not alive[s.node] or insist == '1' and silent(s.node)) then
      vacate(room, id, s)
      s = nil
    end
    if s then return emit(s.node, table.concat({'ask', room, id, s.ticket, me, ticket}, ' ')) end
    if tonumber(limit) > 0 and call('HLEN', key('seats', room)) >= tonumber(limit) then
      return emit(me, 'full ' .. ticket)
    end
    sit(room, id, ticket, secret)
  end},
  -- a node that was forgotten brings a client along; who sits there by now keeps the seat
  resume = {4, function(room, id, ticket, secret)
    local s = seat(room, id)
    if s and token(s.node) == token(me) then return move(room, id, s, me, ticket) end
    if s and not alive[s.node] then
      if secret ~= '-' and s.secret == secret then return move(room, id, s, me, ticket) end
      vacate(room, id, s)
      s = nil
    end
    if s then return emit(me, 'lost ' .. ticket) end
    sit(room, id, ticket, secret)
  end},
  -- all clients were brought along: what is left of this process' earlier lives is over
  resumed = {0, function()
    for node in pairs(alive) do
      if node ~= me and token(node) == token(me) then forget(node) end
    end
  end},
  leave = {3, function(room, id, ticket)
    local s = seat(room, id)
    if s and s.node == me and s.ticket == ticket then vacate(room, id, s) end
  end},
  send = {5, function(room, from, ticket, to, text)
    if not may_say(seat(room, from), ticket) then return end
    local s = seat(room, to)
    if not s or not alive[s.node] then return emit(me, table.concat({'nobody', ticket, to}, ' ')) end
    emit(s.node, table.concat({'frame', room, to, me, ticket}, ' '), text)
  end},
  cast = {4, function(room, from, ticket, text)
    if not may_say(seat(room, from), ticket) then return end
    for _, node in ipairs(call('HKEYS', key('count', room))) do
      if node ~= me then emit(node, table.concat({'cast', room, from}, ' '), text) end
    end
  end},
  -- who held a seat gives its holder what waited for it
  hand = {4, function(room, id, ticket, text)
    local s = seat(room, id)
    if s and s.before == me .. ' ' .. ticket then emit(s.node, table.concat({'mail', room, id}, ' '), text) end
  end},
  -- that was all of it; or the holder waits no longer
  settle = {3, function(room, id, ticket)
    local s = seat(room, id)
    if not s then return end
    if s.before == me .. ' ' .. ticket then
      emit(s.node, table.concat({'handed', room, id, s.ticket}, ' '))
    elseif s.node ~= me or s.ticket ~= ticket then
      return
    end
    s.before = '-'
    put(room, id, s)
  end},
  -- a node that stops leaves a seat in grace to another one
  entrust = {4, function(room, id, ticket, grace)
    local s = seat(room, id)
    if not s or s.node ~= me or s.ticket ~= ticket then return end
    local others = {}
    for node in pairs(alive) do
      if node ~= me and not silent(node) then others[#others + 1] = node end
    end
    if #others == 0 then return vacate(room, id, s) end
    table.sort(others)
    local ward = call('HINCRBY', CLOCK, 'wards', 1)
    move(room, id, s, others[ward % #others + 1], 'w' .. ward, grace)
  end},
  tell = {2, emit},
  bye = {0, function() forget(me) end},
}

local i = 10
while i <= #ARGV do
  local operation = operations[ARGV[i]]
  operation[2](unpack(ARGV, i + 1, i + operation[1]))
  i = i + 1 + operation[1]
end

local left = SWEEP
for _, node in ipairs(call('SMEMBERS', DYING)) do
  local held = call('SRANDMEMBER', key('of', node), left)
  for _, where in ipairs(held) do
    local room, id = string.match(where, '^(%S+) (%S+)$')
    local s = seat(room, id)
    if s and s.node == node then vacate(room, id, s) else call('SREM', key('of', node), where) end
  end
  left = left - #held
  if left <= 0 then break end
  call('SREM', DYING, node)
end
return {'ok', #nodes}
