import asyncio
import httpx


async def main():
    async with httpx.AsyncClient(http2=True) as client:
        print((await client.get("https://api.openai.com/v1/models")).text)

asyncio.run(main())
