function soundPlayer(load, changed) {
  const KEPT = 40, LEVEL = 10 ** (-23 / 20), kept = new Map()
  let context, source, begun = 0, from = 0, turn = 0
  const state = { key: null, seconds: 0, playing: false, level: true, loading: false, problem: "" }
  async function decoded(key) {
    const found = kept.get(key) ?? await read(key)
    kept.delete(key); kept.set(key, found)
    if (kept.size > KEPT) kept.delete(kept.keys().next().value)
    return found
  }
  async function read(key) {
    const buffer = await context.decodeAudioData(await load(key)), samples = buffer.getChannelData(0)
    let squares = 0, peak = 0
    for (const x of samples) { squares += x * x; if (Math.abs(x) > peak) peak = Math.abs(x) }
    return { buffer, gain: peak ? Math.min(LEVEL / Math.sqrt(squares / samples.length), 1 / peak) : 1 }
  }
  const at = () => state.playing ? Math.min(state.seconds, from + context.currentTime - begun) : from
  function halt() { if (source) { source.onended = null; source.stop(); source = null } }
  function stop() { from = at(); halt(); turn++; state.playing = false; changed(state) }
  async function play(key, position = 0) {
    const mine = ++turn
    try {
      context ??= new AudioContext()
      context.resume()
      Object.assign(state, { loading: true, problem: "" }); changed(state)
      const { buffer, gain } = await decoded(key)
      if (mine !== turn) return
      halt()
      source = context.createBufferSource(); source.buffer = buffer
      const volume = context.createGain(); volume.gain.value = state.level ? gain : 1
      source.connect(volume).connect(context.destination)
      from = position < buffer.duration - 0.05 ? position : 0
      source.onended = () => { from = 0; source = null; state.playing = false; changed(state) }
      begun = context.currentTime; source.start(0, from)
      Object.assign(state, { key, seconds: buffer.duration, playing: true, loading: false })
    } catch (error) {
      if (mine !== turn) return
      halt(); Object.assign(state, { playing: false, loading: false, problem: String(error.message ?? error) })
    }
    changed(state)
  }
  function setLevel(on) { state.level = on; if (state.playing) play(state.key, at()) }
  return { state, play, stop, at, setLevel, close: () => { turn++; halt(); context?.close() } }
}
