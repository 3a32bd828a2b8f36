const TONE_PAUSE = 400, LOOK_EVERY = 50                // ms
const HEADPHONES = "Please put on headphones, in a quiet place. You will hear three tones, six times. Each time, say "
  + "which one is the quietest. The answer is kept with your other answers."

function listeningPage(root, data, load, say) {         // say: keeps what a listener does, gives what has changed
  const state = { ...data.state }, main = make("div"), told = make("p", { role: "status" })
  const player = soundPlayer(load, show)
  let asked = null, turn = 0, busy = false, chosen = [], shown = false, problem = ""
  player.setLevel(false)                                // the sounds of a question have one level already
  const button = (words, then, given = {}) => make("button", { ...given, onclick: then }, words)
  const row = (...parts) => make("div", { class: "row" }, ...parts)
  const quiet = words => make("p", { class: "quiet" }, words)
  const todo = () => [...Array(data.count).keys()].find(n => !state.answered.includes(n))

  function show() {
    if (!asked) return
    const { key, playing, loading } = player.state, n = asked.keys.indexOf(key)
    asked.plays.forEach((one, k) => {
      one.setAttribute("aria-pressed", playing && k === n)
      one.textContent = `${playing && k === n ? "Stop" : "Play"} ${data.names[k]}`
    })
    problem = player.state.problem ? `It can't be played: ${player.state.problem}` : problem
    tell(problem || (loading ? "Loading." : asked.ready ? "You can answer." : asked.hint))
  }
  const tell = words => { if (told.textContent !== words) told.textContent = words }
  function look() {                                     // how much has been played
    if (!asked) return
    const { key, playing, seconds } = player.state, n = asked.keys.indexOf(key)
    if (n >= 0 && playing && seconds) asked.heard[n] = Math.max(asked.heard[n], player.at() / seconds)
    asked.heard.forEach((share, k) => { asked.bars[k].value = Math.min(1, share / data.least) })
    const ready = asked.heard.every(share => share >= data.least)
    if (ready && !asked.ready) { asked.ready = true; show() }
    for (const one of asked.choices) one.disabled = !ready || busy
  }
  async function pass(message) {                        // to whoever keeps it
    if (busy) return
    busy = true; problem = ""
    try { Object.assign(state, await say(message)); busy = false; draw() }
    catch (error) {
      busy = false; problem = error.message
      if (error.state) { Object.assign(state, error.state); draw() }
      tell(problem)
    }
  }

  function consent() {
    const name = make("input", { type: "text", maxlength: 100, value: state.listener ?? "", autocomplete: "off" })
    const agreed = make("input", { type: "checkbox" })
    const go = () => {
      if (data.asksName && !name.value.trim()) return tell("Please give a name first; any name will do.")
      if (!agreed.checked) return tell("Please tick the box first.")
      pass({ agree: true, listener: name.value.trim() })
    }
    const sounds = data.names.length === 1 ? "one sound" : `${data.names.length} sounds`
    return [quiet(`${data.count} questions, each about ${sounds}. Play every sound; then choose an answer.`),
      make("p", {}, data.statement),
      ...(data.asksName ? [make("label", { class: "name" }, "My name, or any word that I will find again", name)] : []),
      make("label", {}, agreed, "I agree"), row(button("Begin", go, { class: "go" }))]
  }

  function headphones() {
    const [right, of] = state.checked ?? []
    if (state.checked && !shown) {
      const passed = right >= data.passed, words = passed ? "You seem to hear with headphones."
        : "With headphones, most people find five or six. You may put some on and try again, or go on."
      const again = () => { state.checked = null; chosen = []; draw() }
      const on = button("Go on", () => { shown = true; draw() }, { class: "go" })
      return [make("p", {}, `${right} of ${of} were right. ${words}`),
        row(on, ...(passed ? [] : [button("Try again", again)]))]
    }
    const order = data.orders[chosen.length], take = place => {
      chosen.push(place)
      if (chosen.length === data.orders.length) pass({ headphones: chosen }); else draw()
    }
    const places = ["first", "second", "third"].map((words, n) => button(`The ${words} is the quietest`, () => take(n),
      { disabled: true }))
    const play = button("Play the three tones", async () => {
      const mine = ++turn
      for (const place of order) {
        await player.play(`tone${place}`)
        if (mine !== turn) return
        if (player.state.problem) return tell(`It can't be played: ${player.state.problem}`)
        await new Promise(done => setTimeout(done, 1000 * player.state.seconds + TONE_PAUSE))
        if (mine !== turn) return
      }
      for (const one of places) one.disabled = false
      tell("Which one was the quietest?")
    }, { class: "go" })
    return [make("p", {}, HEADPHONES), make("p", {}, `Tones ${chosen.length + 1} of ${data.orders.length}`), row(play),
      row(...places), row(button("I have no headphones", () => { shown = true; pass({ headphones: [] }) }))]
  }

  function question(keys, then) {
    const share = Math.round(100 * data.least)
    const hint = data.names.length === 1 ? `Play ${data.names[0]} first, at least ${share} % of it.`
      : `Play all sounds first, at least ${share} % of each.`
    asked = { keys, heard: keys.map(() => 0), ready: false, hint }
    asked.plays = keys.map((key, n) => button(`Play ${data.names[n]}`, () => {
      problem = ""
      if (player.state.playing && player.state.key === key) player.stop(); else player.play(key)
    }, { class: "play", "aria-pressed": false }))
    const bar = name => make("progress", { max: 1, value: 0, "aria-label": `how much of ${name} was played` })
    const choice = ([value, words]) => button(words, () => then(value, asked.heard), { disabled: true })
    asked.bars = data.names.map(bar); asked.choices = data.choices.map(choice)
    const sounds = asked.plays.map((one, n) => make("div", { class: "sound" }, one, asked.bars[n]))
    return [row(...sounds), make("p", { class: "question" }, data.question), row(...asked.choices)]
  }
  const keysOf = (kind, number) => data.names.map((_, n) => `${kind}${number}-${n}`)

  function stage() {
    if (!state.agreed) return ["Before you begin", consent()]
    if (!state.checked || !shown) return ["Headphones", headphones()]
    const next = todo()
    if (next === undefined)
      return ["The end", [make("p", {}, `That was the last question. ${data.saves ? data.saves.words : "Thank you."}`)]]
    if (state.practised < data.practice && !state.answered.length)
      return [`Practice ${state.practised + 1} of ${data.practice}`, [quiet("These answers don't count."),
        ...question(keysOf("p", state.practised), () => pass({ practised: state.practised + 1 }))]]
    return [`Question ${state.answered.length + 1} of ${data.count}`, question(keysOf("q", next),
      (answer, heard) => pass({ trial: next, answer, heard: heard.map(share => +Math.min(1, share).toFixed(3)) }))]
  }
  function draw() {
    const moved = root.contains(document.activeElement)
    player.stop(); asked = null; turn++
    const [words, parts] = stage(), heading = make("h2", { tabindex: -1 }, words)
    const done = make("progress", { max: data.count, value: state.answered.length, "aria-label": "answered" })
    const save = data.saves && state.answered.length ? [row(...data.saves.buttons(todo() === undefined))] : []
    main.replaceChildren(heading, ...(state.agreed ? [done] : []), ...parts, told, ...save)
    tell(asked ? asked.hint : "")
    if (moved) heading.focus()
  }
  const timer = setInterval(look, LOOK_EVERY)
  shown = !!state.checked && state.answered.length > 0
  root.classList.add("vl-sweep", "vl-listening"); root.dataset.lmSuppressShortcuts = "true"
  root.replaceChildren(...(data.title ? [make("h1", {}, data.title)] : []), main)
  draw()
  const known = () => JSON.stringify([state.agreed, state.checked, state.practised, state.answered])
  function refresh(news) {                              // of another page of this listener
    const before = known()
    Object.assign(state, news)
    if (known() !== before) draw()
  }
  return { refresh, close: () => { clearInterval(timer); turn++; player.close() } }
}
