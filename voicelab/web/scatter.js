const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"]
const SHAPES = ["M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0", "M-4-4h8v8h-8z", "M0-5.5L5 4H-5z", "M0-6L5 0L0 6L-5 0z"]
const look = n => ({ d: SHAPES[((n % 4) + 4) % 4], fill: COLOURS[((n % 6) + 6) % 6] })
function ticks(low, high) {
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].find(k => k * power >= rough) * power
  const made = []
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) made.push(+(k * step).toPrecision(6))
  return made
}

let WIDTH = 860                         // of the drawing: as wide as its page, so that letters keep their size
const HEIGHT = 320, LEFT = 60, TOP = 12, BELOW = 44, RIGHT = 12
function named(axis, n, points) {                       // a scale of names: levels in a row, their samples side by side
  const wide = (WIDTH - LEFT - RIGHT) / axis.levels.length, most = Math.max(4, Math.floor(wide / 7))
  const beside = i => 0.5 + ((i * 0.618) % 1 - 0.5) * 0.5
  return { of: i => points[i].at[n] < 0 ? null : LEFT + (points[i].at[n] + beside(i)) * wide, words: axis.name,
           marks: axis.levels.map((level, k) => [LEFT + (k + 0.5) * wide, cut(String(level), most)]) }
}
function counted(value, found, words) {                 // a scale of numbers
  const all = found.map(value).filter(x => x != null), low = Math.min(...all), high = Math.max(...all)
  const room = (high - low || 1) * 0.04, each = (WIDTH - LEFT - RIGHT) / (high - low + 2 * room)
  const at = x => LEFT + (x - low + room) * each
  const marks = ticks(low, high).map(x => [at(x), String(x)])
  return { of: i => value(i) == null ? null : at(value(i)), marks, words, at }
}
function acrossScale({ axes, measures, points }, view, found) {
  const n = +view.x.slice(1), one = measures[n], levels = axes[n]?.levels
  if (view.x[0] === "m") return counted(i => points[i].values[n], found, `${one.name} (${one.unit})`)
  if (!levels.every(level => typeof level === "number")) return named(axes[n], n, points)
  const scale = counted(i => levels[points[i].at[n]], found, axes[n].name), beside = i => ((i * 0.618) % 1 - 0.5) * 18
  const marks = levels.length > 10 ? scale.marks : levels.map(x => [scale.at(x), String(x)])
  return { ...scale, marks, of: i => scale.of(i) == null ? null : scale.of(i) + beside(i) }
}

function scatter(data, view, choose) {
  const { axes, measures, points } = data, box = make("div"), settle = rove(box, ".dot")
  let width = WIDTH
  const tall = HEIGHT - TOP - BELOW, line = given => make("svg:line", given)
  const text = (x, y, anchor, words) => make("svg:text", { x, y, "text-anchor": anchor }, words)
  function frame(svg, x, y, [low, high]) {
    svg.append(line({ x1: LEFT, x2: LEFT, y1: TOP, y2: TOP + tall }))
    for (const v of ticks(low, high)) {
      svg.append(line({ x1: LEFT, x2: WIDTH - RIGHT, y1: y(v), y2: y(v) }), text(LEFT - 6, y(v) + 4, "end", String(v)))
    }
    for (const [at, words] of x.marks) svg.append(text(at, TOP + tall + 18, "middle", words))
    svg.append(text((LEFT + WIDTH) / 2, HEIGHT - 6, "middle", x.words))
  }
  const colour = i => view.colour < 0 ? 0 : points[i].at[view.colour]
  function dot(i, x, y) {
    const value = points[i].values[view.y], levels = axes.map((axis, n) => axis.levels[points[i].at[n]] ?? "–")
    const where = levels.join(", ")
    return make("svg:path", { ...look(colour(i)), class: "dot", "data-point": i, role: "button", tabindex: -1,
      onclick: () => choose(i), transform: `translate(${x.of(i).toFixed(1)} ${y(value).toFixed(1)})`,
      "aria-label": `play ${short(value)}; ${where}` }, make("svg:title", {}, `${short(value)}: ${where}`))
  }

  function key(level, n) {
    const shape = make("svg:svg", { viewBox: "-7 -7 14 14", class: "key" }, make("svg:path", look(n)))
    return make("label", {}, shape, cut(String(level), 40))
  }
  function draw() {
    const up = measures[view.y], has = i => points[i].values[view.y] != null && points[i].sound != null
    const found = view.seen().filter(has), ys = found.map(i => points[i].values[view.y])
    if (!found.length) return box.replaceChildren(make("p", { class: "quiet" }, `No sample has a value of ${up.name}.`))
    WIDTH = width
    const low = Math.min(...ys), high = Math.max(...ys), room = (high - low || 1) * 0.05
    const y = v => TOP + (high + room - v) / (high - low + 2 * room) * tall, x = acrossScale(data, view, found)
    const svg = make("svg:svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group",
      "aria-label": `${up.name} of each sample: arrow keys move, Enter plays` })
    frame(svg, x, y, [low, high])
    svg.append(...found.filter(i => x.of(i) != null).map(i => dot(i, x, y)))
    const keys = view.colour < 0 ? [] : axes[view.colour].levels.slice(0, 24).map(key)
    box.replaceChildren(svg, make("div", { class: "row" }, ...keys))
    settle()
  }
  new ResizeObserver(() => {
    const now = Math.min(1400, Math.max(260, box.clientWidth))
    if (box.clientWidth && Math.abs(now - width) > 8) { width = now; draw() }
  }).observe(box)
  return { box, draw }
}
