import java.net.*;
import java.net.http.*;

class Client {
    public static void main(String[] args) throws Exception {
        var builder = HttpClient.newBuilder();
        if (args.length > 0) Proxies.set(builder);
        var request = HttpRequest.newBuilder(URI.create("https://api.openai.com/v1/models")).build();
        System.out.println(builder.build().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }

    /** What a program does that wants to use HTTPS_PROXY. */
    static class Proxies {
        static void set(HttpClient.Builder builder) {
            var proxy = URI.create(System.getenv("HTTPS_PROXY"));
            var user = proxy.getUserInfo().split(":", 2);
            builder.proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())));
            builder.authenticator(new Authenticator() {
                @Override
                protected PasswordAuthentication getPasswordAuthentication() {
                    if (getRequestorType() != RequestorType.PROXY) return null;
                    return new PasswordAuthentication(user[0], user[1].toCharArray());
                }
            });
        }
    }
}
