function capBar({ model, el }) {
  let scale = 1, held = null, times = 0
  const bar = document.createElement("div"), expected = document.createElement("i"), cap = document.createElement("b")
  const beyond = document.createElement("em")
  bar.className = "bar"; cap.className = "voicelab-cap"; bar.append(expected, beyond, cap)
  const facts = { role: "slider", tabindex: "0", "aria-label": "cap" }
  for (const name in facts) cap.setAttribute(name, facts[name])
  el.classList.add("voicelab"); el.replaceChildren(bar)
  const get = name => model.get(name), within = seconds => Math.min(get("most"), Math.max(get("least"), seconds))
  function draw() {
    const known = get("cap") > 0
    el.style.display = known ? "" : "none"
    if (!known) return
    if (held == null)                                   // it stays while the cap is dragged
      scale = Math.max(1.1 * get("expected"), Math.min(1.6 * get("cap"), get("widest")))
    beyond.textContent = (held ?? get("cap")) > scale ? "cap far to the right →" : ""
    const share = seconds => `${Math.min(100, 100 * seconds / scale).toFixed(2)}%`
    expected.style.width = share(get("expected")); cap.style.left = share(held ?? get("cap"))
    for (const [name, value] of [["min", get("least")], ["max", get("most")], ["now", get("cap")]])
      cap.setAttribute(`aria-value${name}`, value.toFixed(2))
    cap.setAttribute("aria-valuetext", `cap at ${get("cap").toFixed(2)} s, ${get("expected").toFixed(2)} s expected`)
    cap.setAttribute("aria-disabled", !get("knob")); cap.tabIndex = get("knob") ? 0 : -1
    cap.title = get("knob") ? `drag, or press the arrow keys: sets ${get("knob")}` : ""
  }
  function ask(seconds) { model.set("asked", [within(seconds), ++times]); model.save_changes() }
  cap.addEventListener("pointerdown", event => {
    if (!get("knob")) return
    event.preventDefault(); cap.focus(); cap.setPointerCapture(event.pointerId); held = get("cap")
  })
  cap.addEventListener("pointermove", event => {
    if (held == null) return
    const { left, width } = bar.getBoundingClientRect()
    held = within((event.clientX - left) / width * scale); ask(held); draw()
  })
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
    cap.addEventListener(end, () => { held = null; draw() })
  cap.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key]
    const end = { Home: get("least"), End: get("most") }[event.key]
    if (!get("knob") || step == null && end == null) return
    event.preventDefault(); event.stopPropagation(); ask(end ?? get("cap") + step * get("step"))
  })
  model.on("change:expected change:cap change:widest change:least change:most change:knob", draw); draw()
  return () => model.off("change:expected change:cap change:widest change:least change:most change:knob", draw)
}
