// A peer connection of pion that a test drives: requests on standard input, replies and events on standard output,
// one JSON object per line. Methods and events: tests/interop/engines.py.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v3"
)

type section struct{ Kind, Codec, Direction string }

type params struct {
	Connection string
	Sections   []section
	Rejected   []string
	Section    section
	Sinks      map[string]int
	IceRestart bool
	SDP        string
	Kind       string
	Direction  string
	Candidate  webrtc.ICECandidateInit
}

type request struct {
	ID     int
	Method string
	Params params
}

type connection struct {
	pc      *webrtc.PeerConnection
	socket  *net.UDPConn
	lock    sync.Mutex
	tracks  map[string]*webrtc.TrackLocalStaticRTP
	senders map[string]*webrtc.RTPSender
}

var (
	connections = map[string]*connection{}
	output      sync.Mutex
)

func emit(message map[string]interface{}) {
	output.Lock()
	defer output.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(message)
}

func create(p params) (interface{}, error) {
	pc, err := newPeerConnection(len(p.Rejected) > 0)
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	c := &connection{pc: pc, socket: socket, tracks: map[string]*webrtc.TrackLocalStaticRTP{},
		senders: map[string]*webrtc.RTPSender{}}
	connections[p.Connection] = c
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate != nil {
			emit(map[string]interface{}{"event": "candidate", "connection": p.Connection, "candidate": candidate.ToJSON()})
		}
	})
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		emit(map[string]interface{}{"event": "state", "connection": p.Connection, "state": state.String()})
	})
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		deliver(c, track, p.Sinks[track.Kind().String()])
	})
	for _, one := range p.Sections {
		if err := add(c, one); err != nil {
			return nil, err
		}
	}
	go send(c)
	return map[string]int{"source": socket.LocalAddr().(*net.UDPAddr).Port}, nil
}

// newPeerConnection makes a connection with all codecs, or without those for video.
func newPeerConnection(audioOnly bool) (*webrtc.PeerConnection, error) {
	media := &webrtc.MediaEngine{}
	var err error
	if audioOnly {
		opus := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
		codec := webrtc.RTPCodecParameters{RTPCodecCapability: opus, PayloadType: 111}
		err = media.RegisterCodec(codec, webrtc.RTPCodecTypeAudio)
	} else {
		err = media.RegisterDefaultCodecs()
	}
	if err != nil {
		return nil, err
	}
	interceptors := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptors(media, interceptors); err != nil {
		return nil, err
	}
	logs := logging.NewDefaultLoggerFactory()
	logs.Writer = os.Stderr // the default is standard output
	api := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(interceptors),
		webrtc.WithSettingEngine(webrtc.SettingEngine{LoggerFactory: logs}))
	return api.NewPeerConnection(webrtc.Configuration{})
}

// deliver hands received RTP over to the test.
func deliver(c *connection, track *webrtc.TrackRemote, sink int) {
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		if data, err := packet.Marshal(); err == nil {
			_, _ = c.socket.WriteToUDP(data, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sink})
		}
	}
}

// send sends RTP from the test. Pion sets the negotiated payload type and SSRC.
func send(c *connection) {
	buffer := make([]byte, 2048)
	for {
		size, err := c.socket.Read(buffer)
		if err != nil {
			return
		}
		kind := "video"
		if buffer[1]&0x7f == 111 {
			kind = "audio"
		}
		c.lock.Lock()
		track := c.tracks[kind]
		c.lock.Unlock()
		if track != nil {
			_, _ = track.Write(buffer[:size])
		}
	}
}

func add(c *connection, one section) error {
	if one.Kind == "data" {
		_, err := c.pc.CreateDataChannel("data", nil)
		return err
	}
	codec := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	if one.Kind == "audio" {
		codec = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}
	} else if one.Codec == "VP9" {
		codec = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP9, ClockRate: 90000, SDPFmtpLine: "profile-id=0"}
	}
	track, err := webrtc.NewTrackLocalStaticRTP(codec, one.Kind, "interop")
	if err != nil {
		return err
	}
	sender, err := c.pc.AddTrack(track)
	if err != nil {
		return err
	}
	go func() { // interceptors, which answer NACKs, see only RTCP that is read
		for buffer := make([]byte, 1500); err == nil; _, _, err = sender.Read(buffer) {
		}
	}()
	c.lock.Lock()
	c.tracks[one.Kind], c.senders[one.Kind] = track, sender
	c.lock.Unlock()
	if one.Codec == "VP9" {
		preferred := []webrtc.RTPCodecParameters{{RTPCodecCapability: codec, PayloadType: 98}}
		return c.transceiver("video").SetCodecPreferences(preferred)
	}
	return nil
}

func (c *connection) transceiver(kind string) *webrtc.RTPTransceiver {
	for _, one := range c.pc.GetTransceivers() {
		if one.Kind().String() == kind {
			return one
		}
	}
	return nil
}

func describe(c *connection, description webrtc.SessionDescription, err error) (interface{}, error) {
	if err == nil {
		err = c.pc.SetLocalDescription(description)
	}
	return map[string]string{"sdp": description.SDP}, err
}

// direct changes the direction of a section. Pion has only AddTrack and RemoveTrack for that: a section becomes
// sendrecv or recvonly.
func direct(c *connection, kind, direction string) error {
	switch direction {
	case "recvonly":
		return c.pc.RemoveTrack(c.senders[kind])
	case "sendrecv":
		return add(c, section{Kind: kind})
	}
	return fmt.Errorf("pion cannot make a section %s", direction)
}

func handle(method string, p params) (interface{}, error) {
	if method == "create" {
		return create(p)
	}
	c := connections[p.Connection]
	if c == nil {
		return nil, errors.New("no such connection")
	}
	switch method {
	case "add":
		return nil, add(c, p.Section)
	case "offer":
		description, err := c.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: p.IceRestart})
		return describe(c, description, err)
	case "answer":
		if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: p.SDP}); err != nil {
			return nil, err
		}
		description, err := c.pc.CreateAnswer(nil)
		return describe(c, description, err)
	case "accept":
		return nil, c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: p.SDP})
	case "candidate":
		return nil, c.pc.AddICECandidate(p.Candidate)
	case "direction":
		return nil, direct(c, p.Kind, p.Direction)
	case "stop":
		return nil, c.transceiver(p.Kind).Stop()
	case "keyframe":
		if one := c.transceiver("video"); one != nil && one.Receiver().Track() != nil {
			ssrc := uint32(one.Receiver().Track().SSRC())
			return nil, c.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}})
		}
		return nil, nil
	case "close":
		delete(connections, p.Connection)
		_ = c.socket.Close()
		return nil, c.pc.Close()
	}
	return nil, errors.New("no such method: " + method)
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	for input.Scan() {
		var one request
		if err := json.Unmarshal(input.Bytes(), &one); err != nil {
			panic(err)
		}
		result, err := handle(one.Method, one.Params)
		if err != nil {
			emit(map[string]interface{}{"id": one.ID, "error": err.Error()})
		} else {
			emit(map[string]interface{}{"id": one.ID, "result": result})
		}
	}
}
