import { GoogleGenAI } from '@google/genai';
const ai = new GoogleGenAI({ apiKey: process.env.GEMINI_API_KEY });
for await (const part of await ai.models.generateContentStream({ model: 'gemini-2.5-flash', contents: 'hi' })) process.stdout.write(part.text ?? '');
