const PLACE = "voicelab-" + content.page, now = () => new Date().toISOString()
const hex = x => x.toString(16).padStart(2, "0")
const sitting = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("")
const fresh = () => ({ sitting: sitting(), listener: "", agreed: "", headphones: null, practised: 0, answers: [] })
function kept() { try { return JSON.parse(localStorage.getItem(PLACE)) } catch { return null } }
let mine = kept() ?? fresh()
function keep() { try { localStorage.setItem(PLACE, JSON.stringify(mine)) } catch { } }         // else this page has it
const right = chosen => chosen.filter((place, n) => content.orders[n][place] === content.quiet).length
const shownState = () => ({ listener: mine.listener, agreed: mine.agreed, practised: mine.practised,
  checked: mine.headphones && [right(mine.headphones.chosen), mine.headphones.chosen.length],
  answered: mine.answers.map(one => one.trial) })
async function take(message) {
  const other = kept()
  if (other?.sitting === mine.sitting) mine = other     // another tab may have gone on
  if (message.agree) Object.assign(mine, { listener: message.listener, agreed: now() })
  if (message.headphones) mine.headphones = { chosen: message.headphones, when: now() }
  if (message.practised) mine.practised = message.practised
  const { trial, answer, heard } = message
  if (answer != null && !mine.answers.some(one => one.trial === trial))
    mine.answers.push({ trial, answer, heard, answered: now() })
  keep()
  return shownState()
}
function save() {
  const { practised, ...told } = mine, name = mine.listener.replace(/[^A-Za-z0-9]+/g, "-").slice(0, 40)
  const said = JSON.stringify({ format: 1, page: content.page, ...told }, null, 1)
  const href = URL.createObjectURL(new Blob([said], { type: "application/json" }))
  make("a", { href, download: `answers-${content.page.slice(0, 8)}-${name}.json` }).click()
}
function another() { mine = fresh(); keep(); page.refresh(shownState()) }
function buttons(ended) {
  const next = make("button", { onclick: another, disabled: true }, "Another listener")     // nothing is lost before
  const file = make("button", { class: ended ? "go" : "", onclick: () => { save(); next.disabled = false } },
    ended ? "Save the answers" : "Save the answers so far")
  return ended ? [file, next] : [file]
}
const saves = { words: "Save the answers, and send the file back. Thank you.", buttons }
const told = { ...content, saves, asksName: true, state: shownState() }
const page = listeningPage(document.getElementById("vl-sweep"), told, storedSound, take)
addEventListener("storage", event => {
  if (event.key !== PLACE || !kept()) return
  mine = kept(); page.refresh(shownState())
})
