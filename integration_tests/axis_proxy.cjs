// RTSP over WebSocket before a camera, by Axis's library: binary messages on one side, TCP on the other.
//
// Usage: node axis_proxy.cjs LIBRARY CAMERA_PORT. Prints its own port on one line, then serves until it
// is ended.

const [library, cameraPort] = process.argv.slice(2);
const { TcpWsProxyPipeline } = require(library);

const proxy = new TcpWsProxyPipeline({
  wsOptions: { host: "127.0.0.1", port: 0 },
  rtspHost: `127.0.0.1:${cameraPort}`,
});
proxy.wss.on("listening", () => console.log(proxy.wss.address().port));
