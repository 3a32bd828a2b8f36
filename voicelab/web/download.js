function downloads({ model, el }) {
  const state = document.createElement("span")
  state.setAttribute("role", "status")
  function draw() {
    const kinds = model.get("kinds"), buttons = kinds.map(kind => {
      const button = document.createElement("button")
      button.textContent = kind.toUpperCase(); button.style.width = "auto"
      button.className = "jupyter-button widget-button"
      button.setAttribute("aria-label", `download as ${kind.toUpperCase()}`)
      button.onclick = () => { state.textContent = ""; model.send({ kind }) }
      return button
    })
    el.style.cssText = "display: flex; flex-wrap: wrap; align-items: center; gap: 2px 6px; font-size: 13px"
    el.replaceChildren(...(kinds.length ? ["Download:", ...buttons, state] : []))
  }
  function save({ name, problem, note }, buffers) {
    if (problem) { state.textContent = `can't be saved: ${problem}`; return }
    const { buffer, byteOffset: from, byteLength: length } = buffers[0]
    const link = document.createElement("a")
    link.href = URL.createObjectURL(new Blob([new Uint8Array(buffer, from, length)])); link.download = name
    document.body.append(link)              // VS Code saves only what is clicked inside the page
    link.click(); link.remove(); setTimeout(() => URL.revokeObjectURL(link.href), 10000)
    state.textContent = note ?? ""
  }
  const forget = () => { state.textContent = "" }
  model.on("msg:custom", save); model.on("change:kinds", draw); model.on("change:turn", forget); draw()
  return () => { model.off("msg:custom", save); model.off("change:kinds", draw); model.off("change:turn", forget) }
}
