// What Java's HttpClient gets from the site of server.py. It offers HTTP/2 (Upgrade: h2c) unless told not to.

import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class Client {
    static final String SITE = "http://site.example";
    static final byte[] BODY = new byte[256 * 1200];
    static final List<String> FIELDS =
        List.of("content-type", "content-length", "transfer-encoding", "content-encoding", "x-case", "location");

    public static void main(String[] arguments) throws Exception {
        for (int at = 0; at < BODY.length; at++) {
            BODY[at] = (byte) at;
        }
        for (HttpClient.Version version : HttpClient.Version.values()) {
            HttpClient client = HttpClient.newBuilder().version(version).followRedirects(HttpClient.Redirect.ALWAYS)
                .connectTimeout(Duration.ofSeconds(20)).build();
            System.out.println(version);
            downloads(client);
            uploads(client);
            events(client, version.name());
            talk(client);
        }
        System.exit(0);
    }

    static HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(SITE + path)).timeout(Duration.ofSeconds(20));
    }

    static void downloads(HttpClient client) throws Exception {
        for (String path : List.of("/download", "/chunked", "/redirect", "/zipped", "/download")) {
            show(path, client.send(request(path).header("Accept-Encoding", "gzip").build(), BodyHandlers.ofByteArray()));
        }
    }

    static void uploads(HttpClient client) throws Exception {
        var whole = BodyPublishers.ofByteArray(BODY);
        var streamed = BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(BODY));
        for (boolean waits : List.of(false, true)) {
            for (var body : List.of(whole, streamed)) {
                var upload = request("/upload").PUT(body).expectContinue(waits).build();
                System.out.println(client.send(upload, BodyHandlers.ofString()).body());
            }
        }
    }

    static void events(HttpClient client, String who) throws Exception {
        var lines = client.send(request("/events?who=" + who).build(), BodyHandlers.ofLines()).body().iterator();
        while (lines.hasNext()) {
            String line = lines.next();
            System.out.println(line);
            if (line.startsWith("data: ")) {
                String number = line.substring(6);
                client.send(request("/seen?who=" + who + "&number=" + number).build(), BodyHandlers.discarding());
            }
        }
    }

    static void talk(HttpClient client) throws Exception {
        BlockingQueue<String> heard = new LinkedBlockingQueue<>();
        WebSocket socket = client.newWebSocketBuilder().buildAsync(URI.create("ws://site.example/echo"), new Ears(heard))
            .get(20, TimeUnit.SECONDS);
        socket.sendText("hello", true).get();
        System.out.println(heard.poll(20, TimeUnit.SECONDS));
        for (int size : new int[] {0, 125, 126, 65535, 65536}) {
            socket.sendBinary(ByteBuffer.wrap(BODY, 0, size), true).get();
            System.out.println(heard.poll(20, TimeUnit.SECONDS));
        }
        socket.sendText("goodbye", true).get();
        System.out.println(heard.poll(20, TimeUnit.SECONDS));
    }

    static class Ears implements WebSocket.Listener {
        final BlockingQueue<String> heard;
        int received;

        Ears(BlockingQueue<String> heard) {
            this.heard = heard;
        }

        public CompletionStage<?> onText(WebSocket socket, CharSequence text, boolean last) {
            heard.add(text.toString());
            socket.request(1);
            return null;
        }

        public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
            received += data.remaining();
            if (last) {
                heard.add("binary " + received);
                received = 0;
            }
            socket.request(1);
            return null;
        }

        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            heard.add("closed " + code + " " + reason);
            return null;
        }

        public void onError(WebSocket socket, Throwable error) {
            heard.add(error.toString());
        }
    }

    static void show(String what, HttpResponse<byte[]> answer) throws Exception {
        StringBuilder line = new StringBuilder(what + " " + answer.statusCode());
        for (String name : FIELDS) {
            answer.headers().firstValue(name).ifPresent(value -> line.append(' ').append(name).append('=').append(value));
        }
        byte[] digest = MessageDigest.getInstance("SHA-256").digest(answer.body());
        System.out.println(line + " " + answer.body().length + " " + HexFormat.of().formatHex(digest));
    }
}
