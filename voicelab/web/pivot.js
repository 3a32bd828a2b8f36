const FIRST = 12                                        // buttons in a cell before "more" is clicked
function pivot(data, view, choose) {
  const box = make("div", { class: "wide" }), settle = rove(box, "td button"), { axes, measures, points } = data
  const name = (axis, n) => axis < 0 ? "all" : n < 0 ? "–" : String(axes[axis].levels[n])
  const at = (i, axis) => axis < 0 ? 0 : points[i].at[axis]
  const values = found => {                             // of one model; those of several have no mean
    const known = found.filter(i => points[i].values[view.measure] != null)
    const models = new Set(known.map(i => points[i].by[view.measure]))
    return models.size > 1 ? [] : known.map(i => points[i].values[view.measure])
  }
  function button(i) {
    const point = points[i], heard = point.sound != null, ended = point.stop === "eos"
    const said = heard ? short(point.values[view.measure]) + (ended ? "" : " " + point.stop) : point.stop
    const where = axes.map((axis, n) => `${axis.name} ${name(n, point.at[n])}`).join(", ")
    return make("button", { class: heard ? ended ? "" : "cut" : "none", "data-point": i, onclick: () => choose(i),
      title: where + (point.why && ": " + point.why), "aria-label": `${heard ? "play" : "show"} ${said}; ${where}` },
      heard ? `▶ ${said}` : said)
  }
  function more(found) {
    const rest = found.slice(FIRST), one = make("button", { onclick: () => {
      one.replaceWith(...rest.map(button)); settle(); view.mark() } }, `${rest.length} more`)
    return rest.length ? [one] : []
  }
  function place(found, shade) {
    const made = found.filter(i => points[i].status === "ok"), ended = made.filter(i => points[i].stop === "eos").length
    const average = mean(values(found)), lost = found.length - made.length
    const told = make("div", { class: "sum" },
      `mean ${short(average)}, ${ended} of ${made.length} ended${lost ? `, ${lost} failed or missing` : ""}`)
    const cell = make("td", {}, make("div", {}, ...found.slice(0, FIRST).map(button), ...more(found)))
    if (found.length > 1) cell.prepend(told)
    cell.style.backgroundColor = shade(average)
    return cell
  }
  function shading(places) {                            // the higher the mean, the bluer
    const means = [...places.values()].map(found => mean(values(found))).filter(x => x != null)
    const low = Math.min(...means), wide = Math.max(...means) - low
    return x => x == null || !(wide > 0) ? "" : `rgba(63, 120, 181, ${(0.32 * (x - low) / wide).toFixed(3)})`
  }

  function draw() {
    const { rows: r, columns: c } = view, seen = view.seen(), places = new Map()
    for (const i of seen) {
      const key = `${at(i, r)} ${at(i, c)}`
      if (places.has(key)) places.get(key).push(i); else places.set(key, [i])
    }
    const shade = shading(places), levels = axis => [...new Set(seen.map(i => at(i, axis)))].sort((a, b) => a - b)
    const head = (axis, n, scope) => make("th", { scope, title: name(axis, n) }, cut(name(axis, n), 80))
    const corner = make("td", { class: "quiet" }, axes[r].name + (c < 0 ? "" : ` \\ ${axes[c].name}`))
    const line = y => make("tr", {}, head(r, y, "row"),
      ...levels(c).map(x => place(places.get(`${y} ${x}`) ?? [], shade)))
    box.replaceChildren(make("table", { "aria-label": "samples by two axes" },
      make("tr", {}, corner, ...levels(c).map(x => head(c, x, "col"))), ...levels(r).map(line)))
    settle()
  }
  return { box, draw }
}
