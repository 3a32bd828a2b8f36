const WIDE = 240, TALL = 44                             // of a waveform, in its own units
function wave({ peaks, seconds, name }, longest, seek) {
  const each = WIDE * seconds / longest / peaks.length
  const line = peaks.map((peak, n) => `M${(n * each + each / 2).toFixed(1)} ${TALL / 2 - peak * 20}v${peak * 40 + 0.5}`)
  const head = make("svg:line", { class: "head", y1: 0, y2: TALL, x1: -9, x2: -9 })
  const box = make("svg:svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `waveform of ${name}`, onclick: event => {
      const { left, width } = box.getBoundingClientRect()
      seek(Math.min(seconds, (event.clientX - left) / width * longest)) } },
    make("svg:path", { d: line.join(""), "stroke-width": each * 0.7 }), head)
  const at = time => {
    for (const x of ["x1", "x2"]) head.setAttribute(x, time == null ? -9 : WIDE * time / longest)
  }
  return { box, at }
}
function deck(el, { clips, keep }, load, send) {        // clips in turn at one position
  const longest = Math.max(...clips.map(clip => clip.seconds), 0.1), state = make("span", { role: "status" })
  const player = soundPlayer(load, show)
  let here = 0
  function hear(n, position = player.at()) {
    here = n
    clips[n].seconds ? player.play(clips[n].key, position) : show(player.state)
  }
  function choose(n) { if (player.state.playing) return hear(n); here = n; show(player.state) }
  const playOrStop = () => player.state.playing ? player.stop() : hear(here)
  const cards = clips.map((clip, n) => {
    const picture = wave(clip, longest, time => hear(n, time))
    const button = make("button", { onclick: () => choose(n), "aria-label": `switch to ${clip.name}` }, clip.letter)
    const keeper = make("button", { class: "keep", onclick: () => send({ keep: clip.key }) }, keep)
    const top = make("div", { class: "row" }, button, make("b", {}, clip.name), ...(keep ? [keeper] : []))
    if (keep) keeper.setAttribute("aria-label", `${keep} ${clip.name}`)
    const box = make("div", { class: "card" }, top, picture.box, make("div", { class: "quiet" }, clip.note))
    box.classList.toggle("cut", clip.cut); box.classList.toggle("best", clip.best)
    return { box, button, picture }
  })
  const play = make("button", { onclick: playOrStop })
  const slider = make("input", { type: "range", min: 0, max: longest, step: 0.01, value: 0,
    "aria-label": "position in seconds", oninput: () => hear(here, +slider.value) })
  const level = make("input", { type: "checkbox", checked: true, onchange: () => player.setLevel(level.checked) })
  function show({ seconds, playing, loading, problem }) {
    const at = player.at(), name = clips[here].name
    cards.forEach(({ box, button, picture }, n) => {
      button.setAttribute("aria-pressed", n === here); box.classList.toggle("here", n === here)
      picture.at(n === here ? at : null)
    })
    play.textContent = playing ? "■ Stop" : "▶ Play"
    slider.value = at; slider.setAttribute("aria-valuetext", `${at.toFixed(1)} s`)
    const long = playing || seconds ? ` of ${clips[here].seconds.toFixed(1)} s` : ""
    state.textContent = problem ? `can't be played: ${problem}` : loading ? `loading ${name}`
      : `${playing ? "playing" : "at"} ${name}, ${at.toFixed(1)}${long || " s"}`
    if (playing) requestAnimationFrame(() => player.state.playing && show(player.state))
  }
  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const n = clips.findIndex(clip => clip.letter.toLowerCase() === event.key.toLowerCase())
    const space = event.key === " " && event.target.tagName !== "BUTTON"
    if (n >= 0) choose(n); else if (space) playOrStop(); else return
    event.preventDefault(); event.stopPropagation()
  }
  const letters = clips.map(clip => clip.letter).join(", ")
  const bar = make("div", { class: "row" }, play, slider, make("label", {}, level, "same level"), state)
  el.classList.add("vl-sweep", "voicelab-deck"); el.dataset.lmSuppressShortcuts = "true"
  el.replaceChildren(...(clips.length ? [make("div", { class: "cards" }, ...cards.map(card => card.box)), bar,
    make("p", { class: "quiet" }, `Keys: ${letters} switch where the sound is, space plays and stops.`)] : []))
  el.addEventListener("keydown", press)
  if (clips.length) show(player.state)
  return () => { el.removeEventListener("keydown", press); player.close() }
}
