import asyncio
import websockets


async def main():
    async with websockets.connect("wss://api.openai.com/v1/responses") as ws:
        await ws.send('{"type": "response.create"}')
        async for message in ws:
            if "response.completed" in message:
                print(message)
                break

asyncio.run(main())
