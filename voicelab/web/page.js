function controlsOf({ axes, measures }, view, held, several, draw) {
  const names = axes.map((axis, n) => [n, axis.name])
  const numbers = measures.map((one, n) => [n, `${one.name} (${one.unit})`])
  const set = name => value => { view[name] = name === "x" ? value : +value; draw() }
  function hold(axis) {
    const levels = axes[axis].levels.map((level, n) => [n, cut(String(level), 60)])
    return choice(axes[axis].name, [[-1, "all"], ...levels], held.get(axis) ?? -1,
                  value => { if (+value < 0) held.delete(axis); else held.set(axis, +value); draw() })
  }
  const free = several.filter(axis => axis !== view.rows && axis !== view.columns)
  const across = [["a", names], ["m", numbers]].flatMap(([kind, all]) => all.map(([n, words]) => [kind + n, words]))
  return {
    pivot: [choice("rows", names, view.rows, set("rows")),
            choice("columns", [[-1, "none"], ...names], view.columns, set("columns")),
            choice("measure", numbers, view.measure, set("measure")), ...free.map(hold)],
    scatter: [choice("across", across, view.x, set("x")), choice("up", numbers, view.y, set("y")),
              choice("colour", [[-1, "none"], ...names], view.colour, set("colour"))] }
}
const SYNTHETIC = "All samples are AI-generated (synthetic) speech. References are recordings of voices, each used "
  + "with the consent that is stated beside it."
const HELP = "A click plays a sample as A; the previous A becomes B. Keys: a, b, r (the reference of A) play from the "
  + "current position, s stops; arrow keys move between samples."

function sweepPage(root, data, load) {
  const { axes, measures, points } = data, all = [...axes.keys()], held = new Map()
  const several = all.filter(n => axes[n].levels.length > 1), best = Math.min(2, measures.length - 1)
  const view = { rows: several[0] ?? 0, columns: several[1] ?? -1, measure: best, y: best,
                 x: `a${several[1] ?? several[0] ?? 0}`, colour: several[0] ?? -1 }
  view.seen = () => [...points.keys()].filter(i => [...held].every(([axis, n]) => points[i].at[axis] === n))
  view.mark = () => {
    for (const one of root.querySelectorAll("[data-point]"))
      for (const slot of ["A", "B"]) one.classList.toggle(slot, parts.chosen[slot] === +one.dataset.point)
  }
  const parts = playerBar(data, load, view), grid = pivot(data, view, parts.choose)
  const cloud = scatter(data, view, parts.choose), row = () => make("div", { class: "row" }), tops = [row(), row()]
  function draw() {
    if (view.columns === view.rows) view.columns = -1
    for (const axis of [view.rows, view.columns]) held.delete(axis)
    const controls = controlsOf(data, view, held, several, draw)
    tops[0].replaceChildren(...controls.pivot); tops[1].replaceChildren(...controls.scatter)
    grid.draw(); cloud.draw(); view.mark()
  }
  const stops = [...new Set(points.map(point => point.stop))]
  const counts = stops.map(stop => `${points.filter(point => point.stop === stop).length} ${stop}`).join(", ")
  const told = one => make("li", {}, `${one.name} (${one.unit}), by ${one.maker}; can't hear: ${one.deaf}`)
  const quiet = words => make("p", { class: "quiet" }, words), heading = words => make("h2", {}, words)
  root.classList.add("vl-sweep"); root.dataset.lmSuppressShortcuts = "true"
  root.replaceChildren(make("h1", {}, data.title), make("p", {}, `${points.length} cells: ${counts}. ${SYNTHETIC}`),
    heading("Samples by two axes"), tops[0], grid.box, quiet(HELP),
    heading("A measure against an axis"), tops[1], cloud.box, heading("The chosen samples"), parts.table,
    heading("How it was measured"), make("ul", {}, ...measures.filter(one => one.maker).map(told)), parts.bar)
  function press(event) {
    const other = event.ctrlKey || event.metaKey || event.altKey || /SELECT|INPUT/.test(event.target.tagName)
    if (!other) parts.keys[event.key]?.()
  }
  root.addEventListener("keydown", press)
  draw()
  return () => { root.removeEventListener("keydown", press); parts.close() }
}
