import java.net.*;

class Connection {
    public static void main(String[] args) throws Exception {
        var url = new URL("https://api.openai.com/v1/models");
        var connection = args.length > 0 ? url.openConnection(proxy()) : url.openConnection();
        System.out.println(new String(connection.getInputStream().readAllBytes()));
    }

    /** What a program does that wants to use HTTPS_PROXY. */
    static Proxy proxy() {
        var proxy = URI.create(System.getenv("HTTPS_PROXY"));
        var user = proxy.getUserInfo().split(":", 2);
        Authenticator.setDefault(new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                if (getRequestorType() != RequestorType.PROXY) return null;
                return new PasswordAuthentication(user[0], user[1].toCharArray());
            }
        });
        return new Proxy(Proxy.Type.HTTP, new InetSocketAddress(proxy.getHost(), proxy.getPort()));
    }
}
