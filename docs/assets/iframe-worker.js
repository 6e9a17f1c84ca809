// Browsers refuse web workers to pages that are opened as files. The search of the theme runs in
// one: here a hidden iframe does its work. Over http the browser's own workers stay.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.append(frame)
      const inside = (this.inside = frame.contentWindow)
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      this.ready = new Promise(resolve => (script.onload = resolve))
      script.src = url
      inside.document.body.append(script)
    }

    postMessage(data) {
      const { MessageEvent } = this.inside
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
