const LEFT = 70, TOP = 66, BELOW = 34
const COLOURS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21],
                 [250, 193, 39], [252, 255, 164]]
function colour(x) {
  const at = Math.min(COLOURS.length - 1.001, x / 255 * (COLOURS.length - 1)), i = Math.floor(at)
  return COLOURS[i].map((c, k) => Math.round(c + (COLOURS[i + 1][k] - c) * (at - i)))
}
function render({ model, el }) {
  const canvas = document.createElement("canvas"), state = document.createElement("div")
  canvas.tabIndex = 0; canvas.className = "voicelab-map"; canvas.setAttribute("role", "application")
  Object.assign(canvas.style, { width: "100%", maxWidth: "900px", height: "396px", cursor: "crosshair" })
  canvas.style.display = "block"
  state.className = "voicelab-heard"; state.setAttribute("role", "status"); state.style.minHeight = "1.5em"
  el.append(canvas, state)
  let context, cross = null
  const data = name => {
    const v = model.get(name)
    return new Uint8Array(v.buffer.slice(v.byteOffset, v.byteOffset + v.byteLength))
  }
  const size = () => [canvas.clientWidth - LEFT - 8, canvas.clientHeight - TOP - BELOW]
  // the weights, with the waveforms and the axes around them
  function cells(rows, columns) {
    const weights = data("weights"), small = new OffscreenCanvas(columns, rows), s = small.getContext("2d")
    const image = s.createImageData(columns, rows)
    for (let i = 0; i < rows * columns; i++) image.data.set([...colour(weights[i]), 255], 4 * i)
    s.putImageData(image, 0, 0)
    return small
  }
  function waves(g, width, height) {
    g.fillStyle = "#3f78b5"
    model.get("above").forEach((y, i, all) =>
      g.fillRect(LEFT + i / all.length * width, 22 - 20 * y, Math.max(1, width / all.length), 40 * y + 1))
    model.get("beside").forEach((x, i, all) =>
      g.fillRect(46 - 18 * x, TOP + i / all.length * height, 36 * x + 1, Math.max(1, height / all.length)))
  }
  function axes(g, width, height, ink) {
    const [seconds, end] = model.get("ends"), labels = model.get("labels")
    g.fillStyle = ink; g.strokeStyle = ink; g.font = "11px sans-serif"; g.textAlign = "center"
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10].find(step => seconds / step <= 10) || 20
    const number = t => t.toFixed(step < 1 ? 1 : 0)
    for (let t = 0; t <= seconds; t += step) g.fillText(number(t), LEFT + t / seconds * width, TOP + height + 14)
    g.fillText("time in the sample (s)", LEFT + width / 2, TOP + height + 29)
    g.textAlign = "right"; g.textBaseline = "middle"
    if (labels.length) {
      const every = Math.ceil(labels.length * 11 / height), at = i => TOP + (i + .5) / labels.length * height
      labels.forEach((label, i) => i % every || g.fillText(label === " " ? "␣" : label, LEFT - 6, at(i)))
    } else for (let t = 0; t <= end; t += step) g.fillText(number(t), 26, TOP + t / end * height)
    g.textAlign = "left"; g.textBaseline = "alphabetic"
    g.fillText(model.get("side"), 2, TOP - 8); g.fillText("sample", 2, 26)
    g.textAlign = "center"
    const free = [0, 0]                                          // where each of two lines of words ends
    for (const [begin, stop, word] of model.get("said")) {
      const x = LEFT + (begin + stop) / 2 / seconds * width, half = g.measureText(word).width / 2 + 3
      const line = free.findIndex(end => x - half >= end)
      if (line < 0) continue
      g.fillText(word, x, 51 + 11 * line); free[line] = x + half
    }
  }
  // the cross of the chosen place, over all of it
  function lines(g, width, height) {
    const [seconds, end] = model.get("ends")
    g.strokeStyle = "#fff"; g.lineWidth = 1.5; g.setLineDash([4, 3])
    const x = LEFT + cross[0] / seconds * width, y = TOP + cross[1] / end * height
    g.beginPath(); g.moveTo(x, TOP); g.lineTo(x, TOP + height); g.moveTo(LEFT, y); g.lineTo(LEFT + width, y)
    g.stroke(); g.setLineDash([])
  }
  function draw() {
    const [width, height] = size()
    if (width < 1) return                                        // hidden; setting the size would clear the canvas
    const scale = window.devicePixelRatio || 1, ink = getComputedStyle(el).color, g = canvas.getContext("2d")
    canvas.width = canvas.clientWidth * scale; canvas.height = canvas.clientHeight * scale; g.scale(scale, scale)
    g.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight)
    const [rows, columns] = model.get("shape")
    if (!rows) return
    g.imageSmoothingEnabled = false; g.drawImage(cells(rows, columns), LEFT, TOP, width, height)
    waves(g, width, height)
    axes(g, width, height, ink)
    if (cross) lines(g, width, height)
  }
  // a moment of the sample, then one of the recording
  function play(name, from, after) {
    const bytes = data(name), samples = new Float32Array(bytes.buffer), rate = model.get("rates")[name]
    const first = Math.min(samples.length, Math.round(from * rate))
    const part = samples.slice(first, first + Math.round(model.get("snippet") * rate))
    if (!part.length) return 0
    const buffer = context.createBuffer(1, part.length, rate), source = context.createBufferSource()
    buffer.copyToChannel(part, 0); source.buffer = buffer; source.connect(context.destination)
    source.start(context.currentTime + after)
    return buffer.duration
  }
  function hear() {
    context?.close(); context = new AudioContext()
    const first = play("sample", cross[0], 0.02), here = context
    const words = [`sample ${cross[0].toFixed(2)} s`]
    let all = first
    if (!model.get("labels").length) {
      all += 0.15 + play("recording", cross[1], first + 0.15)
      words.push(`recording ${cross[1].toFixed(2)} s`)
    }
    const told = words.join(", then ")
    state.textContent = "playing: " + told
    setTimeout(() => {
      if (here === context) state.textContent = `heard ${context.currentTime.toFixed(1)} s: ` + told
    }, 1000 * all + 150)
    model.set("place", cross); model.save_changes()
  }
  // a click, or the arrow keys and Enter
  canvas.addEventListener("click", event => {
    const [width, height] = size(), [seconds, end] = model.get("ends"), box = canvas.getBoundingClientRect()
    const x = (event.clientX - box.left - LEFT) / width, y = (event.clientY - box.top - TOP) / height
    if (!model.get("shape")[0] || x < 0 || x > 1 || y < 0 || y > 1) return
    cross = [x * seconds, y * end]; draw(); hear()
  })
  canvas.addEventListener("keydown", event => {
    const [rows, columns] = model.get("shape"), [seconds, end] = model.get("ends")
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key]
    if (!rows || !(move || event.key === "Enter")) return
    event.preventDefault(); event.stopPropagation()
    cross = cross || [seconds / columns / 2, end / rows / 2]
    if (!move) return hear()
    const within = (most, n, at) => Math.min(most * (1 - .5 / n), Math.max(most * .5 / n, at))
    const axes = [[0, seconds, columns], [1, end, rows]]
    cross = axes.map(([k, most, n]) => within(most, n, cross[k] + move[k] * most / n))
    const label = model.get("labels")[Math.floor(cross[1])]
    const beside = label === undefined ? `recording ${cross[1].toFixed(2)} s` : label.trim() || "a space"
    state.textContent = `sample ${cross[0].toFixed(2)} s, ${beside}; Enter plays it`; draw()
  })
  const redraw = () => { canvas.setAttribute("aria-label", model.get("words")); draw() }
  const watch = new ResizeObserver(draw)
  const theme = new MutationObserver(() => requestAnimationFrame(draw))     // the page has no size before that
  watch.observe(canvas); theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name"] })
  const renew = () => { cross = null; state.textContent = ""; redraw() }
  for (const name of ["weights", "labels", "words", "said"]) model.on("change:" + name, renew)
  redraw()
  return () => { watch.disconnect(); theme.disconnect(); context?.close() }
}
