function asker(model) {                                 // sounds from the kernel, by key
  const waiting = new Map()
  const answer = ({ key, problem }, buffers) => {
    for (const [done, failed] of waiting.get(key) ?? []) {
      const bytes = buffers?.[0]
      if (problem || !bytes) failed(new Error(problem || "the kernel sent no sound"))
      else done(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength))
    }
    waiting.delete(key)
  }
  const load = key => new Promise((done, failed) => {
    waiting.has(key) ? waiting.get(key).push([done, failed]) : waiting.set(key, [[done, failed]])
    model.send({ key })
  })
  model.on("msg:custom", answer)
  return { load, close: () => model.off("msg:custom", answer) }
}
