const SVG = "http://www.w3.org/2000/svg"
function make(tag, given = {}, ...parts) {
  const made = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag)
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value)
    else if (value != null && value !== false) made.setAttribute(name, value === true ? "" : value)
  }
  made.append(...parts)
  return made
}
function choice(words, options, chosen, then) {         // options: [value, text]
  const box = make("select", { onchange: () => then(box.value) })
  for (const [value, text] of options) box.append(make("option", { value }, text))
  box.value = chosen
  return make("label", {}, words, box)
}
function rove(box, chooser) {
  const all = () => [...box.querySelectorAll(chooser)]
  function turn(to, rest) { for (const one of rest) one.setAttribute("tabindex", -1); to?.setAttribute("tabindex", 0) }
  box.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], items = all()
    const here = items.indexOf(event.target)
    if (here < 0) return
    if (event.key === "Enter" && event.target.namespaceURI === SVG) event.target.dispatchEvent(new Event("click"))
    if (!step) return
    event.preventDefault()
    const next = items[(here + step + items.length) % items.length]
    turn(next, items.filter(one => one.tabIndex === 0)); next.focus()
  })
  return () => { const items = all(); turn(items[0], items) }
}
const short = x => x == null ? "–" : Math.abs(x) >= 100 ? x.toFixed(0) : String(+x.toPrecision(3))
const cut = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text
const mean = values => values.length ? values.reduce((a, b) => a + b) / values.length : null
