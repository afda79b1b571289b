import asyncio
import aiohttp


async def main():
    async with aiohttp.ClientSession() as session:
        async with session.get("https://api.openai.com/v1/models") as answer:
            print(await answer.text())

asyncio.run(main())
