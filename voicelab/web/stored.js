const content = JSON.parse(document.getElementById("vl-data").textContent)
async function storedSound(key) {
  const text = atob(document.getElementById("vl-sound-" + key).textContent), bytes = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i)
  return bytes.buffer
}
