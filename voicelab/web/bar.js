function comparison({ axes, measures, points }, chosen) {        // A and B side by side
  const slots = ["A", "B"].filter(name => chosen[name] != null)
  const row = (words, value) => make("tr", {}, make("th", { scope: "row" }, words),
    ...slots.map(name => make("td", {}, value(points[chosen[name]]))))
  return make("table", { "aria-label": "the chosen samples" },
    make("tr", {}, make("td"), ...slots.map(name => make("th", { scope: "col", class: name }, name))),
    ...axes.map((axis, n) => row(axis.name, point => String(axis.levels[point.at[n]] ?? "–"))),
    row("outcome", point => point.stop + (point.why && ": " + point.why)),
    row("consent", point => point.consent || "–"),
    ...measures.map((one, n) => row(`${one.name} (${one.unit})`, point => short(point.values[n]))))
}
function playerBar(data, load, view) {
  const { points } = data, chosen = { A: null, B: null }, table = make("div", { class: "wide" })
  const sound = slot => slot === "R" ? points[chosen.A]?.voice : points[chosen[slot]]?.sound
  const state = make("span", { role: "status" }), player = soundPlayer(load, show), stop = () => player.stop()
  let slot = null
  const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": "position in seconds",
    oninput: () => slot && hear(slot, +slider.value) })
  const level = make("input", { type: "checkbox", checked: true, onchange: () => player.setLevel(level.checked) })
  function hear(wanted, position = player.at()) {
    if (sound(wanted)) { slot = wanted; player.play(sound(wanted), position) }
  }
  const button = (wanted, words) => make("button", { onclick: () => hear(wanted) }, words)
  const buttons = { A: button("A", "A"), B: button("B", "B"), R: button("R", "reference of A") }

  function show({ seconds, playing, loading, problem }) {
    for (const [name, one] of Object.entries(buttons)) {
      one.disabled = !sound(name); one.setAttribute("aria-pressed", playing && name === slot)
    }
    const what = slot === "R" ? "the reference" : slot, at = player.at()
    slider.max = seconds || 1; slider.value = at
    state.textContent = problem ? `can't be played: ${problem}` : !slot ? "Choose a sample."
      : loading ? `loading ${what}`
      : `${playing ? "playing" : "heard"} ${what}, ${at.toFixed(1)} of ${seconds.toFixed(1)} s`
    if (playing) requestAnimationFrame(() => player.state.playing && show(player.state))
  }
  function choose(i) {
    if (i !== chosen.A) { chosen.B = chosen.A ?? chosen.B; chosen.A = i }
    table.replaceChildren(comparison(data, chosen)); view.mark()
    if (sound("A")) return hear("A", 0)
    stop(); slot = null; show(player.state)
  }
  const keys = { a: () => hear("A"), b: () => hear("B"), r: () => hear("R"), s: stop }
  const bar = make("div", { class: "bar row" }, ...Object.values(buttons), make("button", { onclick: stop }, "stop"),
    slider, make("label", {}, level, "same level"), state)
  show(player.state)
  return { bar, table, choose, chosen, keys, close: player.close }
}
