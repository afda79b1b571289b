import asyncio
import aiohttp


async def main():
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect("wss://api.openai.com/v1/responses") as ws:
            await ws.send_json({"type": "response.create"})
            async for message in ws:
                if "response.completed" in message.data:
                    print(message.data)
                    break

asyncio.run(main())
