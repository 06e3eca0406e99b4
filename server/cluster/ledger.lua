-- Ledger of a cluster (docs/decisions/0014): it decides which node holds which seat. Redis executes one batch at a time,
-- so the ledger never changes within a batch. Its decisions are not returned but go into the inboxes of the nodes.
--
-- KEYS[1]  prefix of all keys
-- ARGV     run_id of Redis; node; number of the batch; "1" if it is the node's first; lease in ms; number of inbox
--          entries that the node has read, and their size in bytes; maximum number and size of unread entries; then the
--          operations, each a word and its arguments
-- Returns  {"ok", number of nodes}, or {"forgotten", 0}: the node is not registered, and no operation was executed
--
-- clock         hash: run, the run_id; wall, system time of the last batch in ms; at, age of the ledger in ms; wards,
--               number of seats entrusted so far
-- nodes         set of the registered nodes. A name is TOKEN.N for the N-th registration of a process
-- node:NODE     hash: done, number of its last batch; beat, age of the ledger at that time; seq and octets, number and
--               size of its inbox entries so far; read and heard, number and size of those that it has read
-- in:NODE       stream, its inbox. The id of an entry is its number, so a missing entry is detected
-- of:NODE       set of "ROOM ID", the seats that it holds
-- dying         set of removed nodes that still hold seats
-- seats:ROOM    hash: id to "NODE TICKET KEY NODE TICKET": the holder, and the previous holder until it has handed over
-- count:ROOM    hash: node to the number of its seats in the room. These nodes receive the events of the room
--
-- A room name is preceded by a slash. "-" stands for a missing key or node.

local prefix = KEYS[1]
local run, me, number, first = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local lease, read, heard = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local most_entries, most_octets = tonumber(ARGV[8]), tonumber(ARGV[9])
local SWEEP = 500 -- maximum number of seats of removed nodes that one batch frees: a few milliseconds of work
local call = redis.call

local function key(kind, name) return prefix .. kind .. ':' .. name end
local CLOCK, NODES, DYING = prefix .. 'clock', prefix .. 'nodes', prefix .. 'dying'

-- Data from before a restart of Redis is not trusted: it may be outdated. ---------------------------------------------

local known = call('HGET', CLOCK, 'run')
if known ~= run then
  if not first then return {'forgotten', 0} end
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

-- The clock advances by at most a fifth of the lease per batch. While Redis is unreachable for all nodes, the clock
-- stands still and no lease ends. ------------------------------------------------------------------------------------

local time = call('TIME')
local wall = time[1] * 1000 + math.floor(time[2] / 1000)
local was = call('HMGET', CLOCK, 'wall', 'at')
local step = math.floor(lease / 5)
local at = (tonumber(was[2]) or 0) + math.max(0, math.min(was[1] and wall - was[1] or 0, step))
call('HSET', CLOCK, 'wall', string.format('%d', wall), 'at', string.format('%d', at))

-- Nodes -------------------------------------------------------------------------------------------------------------

local alive = {} -- node to the time of its last batch, for all registered nodes

local function remove(node)
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
  if type(added) == 'table' and added.err then remove(node) end -- a foreign entry: the node registers again
end

local mine = key('node', me)
local done = tonumber(call('HGET', mine, 'done'))
if not done then
  if not first then return {'forgotten', 0} end
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
  -- the inbox is too full: the node is so far behind that it has to register again
  local lags = not of[2] or not of[3] or of[2] - of[3] > most_entries or of[4] - of[5] > most_octets
  if lags or at - alive[node] > lease then remove(node) end
end
if not alive[me] then return {'forgotten', 0} end
if number <= done then return {'ok', #nodes} end -- a repeated batch: its answer was lost
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

local function take_from(room, id, node) -- returns "1" if it was the node's last seat in the room
  call('SREM', key('of', node), room .. ' ' .. id)
  if call('HINCRBY', key('count', room), node, -1) > 0 then return '0' end
  call('HDEL', key('count', room), node)
  return '1'
end

local function give_to(room, id, node) -- returns all peers in the room if it is the node's first seat there
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

local function assign(room, id, ticket, secret)
  local s = {node = me, ticket = ticket, secret = secret, before = '-'}
  put(room, id, s)
  emit(me, table.concat({'joined', room, id, ticket, '-'}, ' '), give_to(room, id, me))
  for _, node in ipairs(call('HKEYS', key('count', room))) do
    if node ~= me then emit(node, table.concat({'came', room, id}, ' ')) end
  end
end

-- Gives a seat to another node; no peer notices. The previous node hands over its queued messages, unless it is silent.
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

local function is_sender(s, ticket) -- whether the ticket is that of the holder, or of the holder before a move
  return s and (s.node == me and s.ticket == ticket or s.before == me .. ' ' .. ticket)
end

-- Operations: number of arguments, and function ------------------------------------------------------------------------

local operations = {
  -- a client claims a seat; `insist`: a repeated claim, so the holder had time to answer a ping (rule 3)
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
    assign(room, id, ticket, secret)
  end},
  -- a node that registered again claims the seat of a client; another holder keeps the seat
  resume = {4, function(room, id, ticket, secret)
    local s = seat(room, id)
    if s and token(s.node) == token(me) then return move(room, id, s, me, ticket) end
    if s and not alive[s.node] then
      if secret ~= '-' and s.secret == secret then return move(room, id, s, me, ticket) end
      vacate(room, id, s)
      s = nil
    end
    if s then return emit(me, 'lost ' .. ticket) end
    assign(room, id, ticket, secret)
  end},
  -- all seats are resumed: remove the earlier registrations of this process
  resumed = {0, function()
    for node in pairs(alive) do
      if node ~= me and token(node) == token(me) then remove(node) end
    end
  end},
  leave = {3, function(room, id, ticket)
    local s = seat(room, id)
    if s and s.node == me and s.ticket == ticket then vacate(room, id, s) end
  end},
  send = {5, function(room, from, ticket, to, text)
    if not is_sender(seat(room, from), ticket) then return end
    local s = seat(room, to)
    if not s or not alive[s.node] then return emit(me, table.concat({'nobody', ticket, to}, ' ')) end
    emit(s.node, table.concat({'frame', room, to, me, ticket}, ' '), text)
  end},
  cast = {4, function(room, from, ticket, text)
    if not is_sender(seat(room, from), ticket) then return end
    for _, node in ipairs(call('HKEYS', key('count', room))) do
      if node ~= me then emit(node, table.concat({'cast', room, from}, ' '), text) end
    end
  end},
  -- the previous node of a seat hands over a queued message
  hand = {4, function(room, id, ticket, text)
    local s = seat(room, id)
    if s and s.before == me .. ' ' .. ticket then emit(s.node, table.concat({'mail', room, id}, ' '), text) end
  end},
  -- the previous node has handed over all messages, or the holder waits no longer
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
  -- a node that stops passes a seat in grace to another one, in turn
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
  bye = {0, function() remove(me) end},
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
