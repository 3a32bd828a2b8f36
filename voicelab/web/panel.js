const TYPED = "textarea, select, [contenteditable=true], input:not([type=checkbox], [type=radio], [type=range])"
const PRESSED = "button, [role=button], a, summary, audio, input, .voicelab-deck *"
const FOLD = ".jupyter-widget-Collapse-header"                        // of an accordion

function panelPage({ model, el }) {
  const set = (part, name, value) => {
    if (value != null && part.getAttribute(name) !== value) part.setAttribute(name, value)
  }
  let panel, watch, sizes, told, last, waiting = setTimeout(begin)
  function name() {
    for (const part of panel.querySelectorAll(".widget-slider, .widget-hprogress")) {
      const words = part.querySelector(".widget-label")?.textContent, off = part.querySelector("[disabled]")
      for (const bar of part.querySelectorAll(".progress")) {
        set(bar, "aria-label", words); set(bar, "role", "progressbar")
      }
      for (const handle of part.querySelectorAll(".noUi-handle")) {
        set(handle, "aria-label", words); set(handle, "tabindex", off ? "-1" : "0")
        set(handle, "aria-valuetext", part.querySelector(".widget-readout")?.textContent)
      }
    }
    for (const box of panel.querySelectorAll("input[type=text], textarea")) set(box, "dir", "auto")
    for (const head of panel.querySelectorAll(FOLD)) {
      set(head, "role", "button"); set(head, "tabindex", "0")
      set(head, "aria-expanded", String(head.parentElement.classList.contains("jupyter-widget-Collapse-open")))
    }
  }
  function fold(event) {
    if (!event.target.matches(FOLD) || event.key !== "Enter" && event.key !== " ") return
    event.preventDefault(); event.stopPropagation(); event.target.click()
  }
  const quieten = ({ target }) => {                     // or x deletes the cell
    last = target; target.dataset.lmSuppressShortcuts = "true"
  }
  function hold() {                     // a button that is switched off loses the focus, and with it the keys
    if (last?.disabled && [document.body, last].includes(document.activeElement)) panel.focus({ preventScroll: true })
  }
  function playOrPause() {
    const sounds = [...panel.querySelectorAll(".voicelab-result audio[aria-label=result]")]
    const sound = sounds.find(each => each.offsetParent)
    if (sound) sound.paused ? sound.play() : sound.pause()
    return sound
  }
  function press(event) {
    const { key, target } = event, typed = target.closest(TYPED)
    const done = () => { event.preventDefault(); event.stopPropagation() }
    if (key === "Enter" && (event.ctrlKey || event.metaKey)) {
      done(); model.send({ text: panel.querySelector(".voicelab-text textarea")?.value ?? null })
    } else if (key === "Escape") {
      const stop = panel.querySelector(".voicelab-stop:not(:disabled)")
      if (stop) { done(); stop.click() } else if (typed) { done(); panel.focus() }
    } else if (key === " " && !typed && !target.closest(PRESSED) && playOrPause()) done()
  }
  function tell() {
    clearTimeout(told)
    told = setTimeout(() => {
      const width = Math.round(panel.getBoundingClientRect().width)
      if (width && width !== model.get("pixels")) { model.set("pixels", width); model.save_changes() }
    }, 250)
  }
  function begin() {
    panel = el.closest(".voicelab-panel")
    if (!panel) return waiting = setTimeout(begin, 50)
    panel.tabIndex = -1                                               // a click on its background gives it the keys
    panel.addEventListener("focusin", quieten); panel.addEventListener("keydown", fold)
    if (model.get("makes")) panel.addEventListener("keydown", press, true)
    const attributes = ["aria-valuetext", "disabled", "tabindex", "class"]     // el may have left the panel by then
    watch = new MutationObserver(() => { name(); hold() }); sizes = new ResizeObserver(tell)
    watch.observe(panel, { childList: true, subtree: true, characterData: true, attributeFilter: attributes })
    sizes.observe(panel); name()
  }
  return () => {
    clearTimeout(waiting); clearTimeout(told); watch?.disconnect(); sizes?.disconnect()
    panel?.removeEventListener("focusin", quieten); panel?.removeEventListener("keydown", fold)
    panel?.removeEventListener("keydown", press, true)
  }
}
