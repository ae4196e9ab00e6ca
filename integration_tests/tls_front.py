"""A TLS front before a camera: takes TLS on a free port, passes everything on to a TCP port.

Usage: tls_front.py CERTIFICATE KEY CAMERA_PORT. Prints its own port on one line, then serves until
it is ended.
"""

import asyncio
import ssl
import sys


async def main(certificate, key, camera_port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def serve(reader, writer):
        camera = await asyncio.open_connection("127.0.0.1", camera_port)
        await asyncio.gather(copy(reader, camera[1]), copy(camera[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
