-- Mixed load for xprompt-server by wrk (Debian package `wrk`): requests go to the tasks in turn.
--
--   XPROMPT_LOAD_TEXTS=.cache/data/tweets/test.jsonl,.cache/data/bbc/test.jsonl \
--       wrk -t1 -c16 -d20s --latency -s scripts/load.lua http://127.0.0.1:8080
--
-- XPROMPT_LOAD_TEXTS      JSONL files with rows {"text": ...}, one per task in order; the last serves the rest
-- XPROMPT_LOAD_TASKS      tasks to post to (default: tweet-sentiment,bbc-topics)
-- XPROMPT_LOAD_MAX_BYTES  leave out texts longer than this (default: none is left out)

local threads = 0

function setup(thread)
  thread:set("offset", threads)
  threads = threads + 1
end

local function split(list)
  local parts = {}
  for part in list:gmatch("[^,]+") do
    parts[#parts + 1] = part
  end
  return parts
end

-- The row's text as the JSON string that it is in the file, quotes included.
local function text_literal(line)
  local start = select(2, line:find('"text"%s*:%s*"'))
  local at = start
  repeat
    at = start and line:find('[\\"]', at + 1)
    if not at then
      error("XPROMPT_LOAD_TEXTS: a line without a \"text\" string: " .. line:sub(1, 80))
    end
    local quote = line:sub(at, at) == '"'
    at = quote and at or at + 1
  until quote
  return line:sub(start, at)
end

local function read_texts(path, limit)
  local texts = {}
  for line in io.lines(path) do
    local text = text_literal(line)
    if #text - 2 <= limit then
      texts[#texts + 1] = text
    end
  end
  assert(#texts > 0, path .. ": no text to post")
  return texts
end

local tasks, texts, count = {}, {}, 0

function init()
  local files = split(assert(os.getenv("XPROMPT_LOAD_TEXTS"), "XPROMPT_LOAD_TEXTS is not set: see scripts/load.lua"))
  local limit = tonumber(os.getenv("XPROMPT_LOAD_MAX_BYTES")) or math.huge
  tasks = split(os.getenv("XPROMPT_LOAD_TASKS") or "tweet-sentiment,bbc-topics")
  for i = 1, #tasks do
    texts[i] = i <= #files and read_texts(files[i], limit) or texts[#files]
  end
  wrk.headers["Content-Type"] = "application/json"
  count = offset * 997 -- threads start at different texts
end

function request()
  local task = count % #tasks + 1
  local text = texts[task][math.floor(count / #tasks) % #texts[task] + 1]
  count = count + 1
  return wrk.format("POST", "/tasks/" .. tasks[task] .. "/predict", nil, '{"input": ' .. text .. "}")
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    "load: %.1f requests/s, p50 %.2f ms, p99 %.2f ms, %d answers, %d not 2xx or 3xx, %d socket errors",
    summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000,
    latency:percentile(99) / 1000,
    summary.requests,
    errors.status,
    errors.connect + errors.read + errors.write + errors.timeout
  ))
end
