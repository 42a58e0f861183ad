// Browsers start no worker from file://. There, run the worker of the search in a hidden frame.
if (location.protocol === "file:") {
  // As between a page and a worker: later, and of a copy.
  const deliver = (data, receive) => {
    const copy = structuredClone(data);
    setTimeout(() => receive(new MessageEvent("message", { data: copy })));
  };

  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);

      const { contentDocument, contentWindow } = this.frame;
      contentWindow.postMessage = (data) => deliver(data, (event) => {
        this.dispatchEvent(event);
        this.onmessage?.(event);
      });
      const script = contentDocument.createElement("script");
      script.src = url;
      this.loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      contentDocument.head.append(script);
    }

    postMessage(data) {
      this.loaded.then(() => deliver(data, this.frame.contentWindow.onmessage));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
