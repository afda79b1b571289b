require 'net/http'
puts Net::HTTP.get(URI('https://api.openai.com/v1/models'))
